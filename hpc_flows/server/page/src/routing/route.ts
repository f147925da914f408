/**
 * Where the page is: the part of the address after `#`, such as `#/runs?state=FAILED`.
 *
 * The hash never reaches the server, so the page works under any prefix, and every view, filter
 * and tab is an address that can be bookmarked and sent to a colleague.
 */

import { signal } from "@preact/signals";

export interface Route {
  /** The pieces between slashes, decoded: `#/runs/abc` is `["runs", "abc"]`. */
  path: string[];
  query: URLSearchParams;
}

/** A value of a query: null, undefined, false and "" take the name out; an array repeats it. */
export type QueryValue = string | number | boolean | null | undefined | readonly (string | number)[];
export type Query = Readonly<Record<string, QueryValue>>;

/** Read a hash; what cannot be decoded is left as it is. */
export function parseHash(hash: string): Route {
  const text = hash.replace(/^#\/?/, "");
  const mark = text.indexOf("?");
  const path = mark < 0 ? text : text.slice(0, mark);
  return {
    path: path.split("/").filter(Boolean).map(decode),
    query: new URLSearchParams(mark < 0 ? "" : text.slice(mark + 1)),
  };
}

function decode(piece: string): string {
  try {
    return decodeURIComponent(piece);
  } catch {
    return piece;
  }
}

/** Set, repeat and take out names of a query, in place. */
export function patch(query: URLSearchParams, changes: Query): URLSearchParams {
  for (const [name, value] of Object.entries(changes)) {
    query.delete(name);
    if (Array.isArray(value)) for (const one of value) query.append(name, String(one));
    else if (value !== null && value !== undefined && value !== false && value !== "")
      query.set(name, String(value));
  }
  return query;
}

/** The address of a place in the page: `href(["flow-runs", id], {tab: "logs"})`. */
export function href(path: readonly string[], query: Query | URLSearchParams = {}): string {
  const search =
    query instanceof URLSearchParams ? query : patch(new URLSearchParams(), query);
  const text = search.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export const route = signal<Route>(parseHash(location.hash));

addEventListener("hashchange", () => {
  route.value = parseHash(location.hash);
});

/** Go to a place, as a new entry of the browser's history. */
export function go(path: readonly string[], query: Query | URLSearchParams = {}): void {
  location.hash = href(path, query);
}

/** Change the query of this place. Filters replace the history's entry; tabs may push one. */
export function setQuery(changes: Query, { push = false }: { push?: boolean } = {}): void {
  const here = route.peek();
  const hash = href(here.path, patch(new URLSearchParams(here.query), changes));
  if (push) location.hash = hash;
  else {
    history.replaceState(null, "", hash);
    route.value = parseHash(hash);
  }
}

/** Put another address in place of this one, without leaving the old one in the history. */
export function replacePlace(path: readonly string[], query: Query | URLSearchParams = {}): void {
  const hash = href(path, query);
  history.replaceState(null, "", hash);
  route.value = parseHash(hash);
}
