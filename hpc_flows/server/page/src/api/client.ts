/** Requests to the server that sent this page. Addresses are relative: a prefix stays. */

import { signal } from "@preact/signals";
import { patch, type Query } from "../routing/route";

/** True once the server said 401: the page then shows the login. */
export const signedOut = signal(false);

/** What the server refused, in its own words. */
export class ApiError extends Error {
  constructor(
    /** The HTTP status; 0 when the server was not reached. */
    readonly status: number,
    readonly code: string,
    message: string,
    /** Seconds after which the server wants to be asked again. */
    readonly retryAfter: number | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

/** The address of an API path, relative to the page: `apiUrl("flow-runs", {state: "FAILED"})`. */
export function apiUrl(path: string, query: Query = {}): string {
  const search = patch(new URLSearchParams(), query).toString();
  return `api/v1/${path}${search ? `?${search}` : ""}`;
}

/** GET a JSON document. Throws `ApiError`; an aborted request throws the browser's AbortError. */
export function get<T>(path: string, query: Query = {}, stop?: AbortSignal): Promise<T> {
  return request<T>("GET", apiUrl(path, query), undefined, stop);
}

/** Send a JSON document (or none) and return the answer; 204 gives undefined. */
export function send<T>(
  method: "POST" | "PUT" | "DELETE",
  path: string,
  body?: unknown,
): Promise<T> {
  return request<T>(method, apiUrl(path), body);
}

async function request<T>(
  method: string,
  url: string,
  body?: unknown,
  stop?: AbortSignal,
): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method !== "GET") {
    headers["Content-Type"] = "application/json";
    headers["X-Requested-With"] = "hpc-flows";
  }
  let answer: Response;
  try {
    answer = await fetch(url, {
      method,
      headers,
      credentials: "same-origin",
      body: method === "GET" ? null : JSON.stringify(body ?? {}),
      signal: stop ?? null,
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", UNREACHABLE);
  }
  if (answer.status === 204) return undefined as T;
  if (!answer.ok) throw await refusal(answer);
  return (await answer.json()) as T;
}

const UNREACHABLE =
  "The server does not answer. Is it still running (hpc-flows server status), and is the tunnel or forwarded port still open?";

async function refusal(answer: Response): Promise<ApiError> {
  if (answer.status === 401) signedOut.value = true;
  const wait = Number(answer.headers.get("Retry-After") ?? Number.NaN);
  const about = (await answer.json().catch(() => null)) as {
    error?: unknown;
    message?: unknown;
  } | null;
  const said = about && typeof about.message === "string" ? about.message : null;
  return new ApiError(
    answer.status,
    about && typeof about.error === "string" ? about.error : `http-${answer.status}`,
    said ?? `The server answered ${answer.status} ${answer.statusText}.`,
    Number.isFinite(wait) ? wait : null,
  );
}

/** One sentence for people, of whatever was thrown. */
export function asSentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
