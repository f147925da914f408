/** Data of a view: loaded, kept while it is loaded again, and loaded again when runs change. */

import { effect } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Query } from "../routing/route";
import { ApiError, apiUrl, asSentence, get } from "./client";
import { changes, turns, versions } from "./live";

export interface Loaded<T> {
  /** The newest answer; kept while the next one is on its way, and when that fails. */
  data: T | null;
  /** What went wrong with the newest attempt, as a sentence. */
  error: string | null;
  /** Whether the server says that there is no such thing, or none that one may see. */
  missing: boolean;
  /** Whether an answer for *this* address is still outstanding and none was had. */
  loading: boolean;
  /** Ask again now. */
  reload: () => void;
}

export interface LoadOptions {
  /** Load again when this root run changes; "any": when any does; null: never by itself. */
  run?: string | null;
  /** At least this many ms between two loads that changes caused. */
  pace?: number;
}

interface Got<T> {
  url: string | null;
  data: T | null;
  error: string | null;
  missing: boolean;
}

/** Load `path` with `query`; a null path loads nothing. */
export function useLoad<T>(
  path: string | null,
  query: Query = {},
  { run = null, pace = 500 }: LoadOptions = {},
): Loaded<T> {
  const url = path === null ? null : apiUrl(path, query);
  const [got, setGot] = useState<Got<T>>({
    url: null,
    data: null,
    error: null,
    missing: false,
  });
  const load = useRef<() => void>(() => undefined);

  useEffect(() => {
    if (path === null || url === null) return undefined;
    const loader = pacedLoader<T>(
      (stop) => get<T>(path, query, stop),
      (data, error) =>
        setGot((before) => ({
          url,
          data: data ?? (error !== null && before.url !== url ? null : before.data),
          error: error === null ? null : asSentence(error),
          missing: error instanceof ApiError && error.status === 404,
        })),
      pace,
    );
    load.current = loader.now;
    loader.now();
    const forget = run === null ? () => undefined : onChange(run, loader.soon);
    return () => {
      forget();
      loader.stop();
    };
    // The address holds the path and the query.
  }, [url, run, pace]);

  return {
    data: got.data,
    error: got.error,
    missing: got.missing,
    loading: url !== null && got.url !== url,
    reload: () => load.current(),
  };
}

function onChange(run: string, act: () => void): () => void {
  let seen: number | string | undefined;
  return effect(() => {
    const now = run === "any" ? changes.value : changeOf(run);
    if (seen !== undefined && now !== seen) act();
    seen = now;
  });
}

/** A text that differs when the run changed, or when nobody can tell. */
function changeOf(run: string): string {
  return `${turns.value}:${versions.value.get(run) ?? ""}`;
}

/** One request at a time, and `pace` ms between those that changes caused. */
function pacedLoader<T>(
  ask: (stop: AbortSignal) => Promise<T>,
  take: (data: T | null, error: unknown) => void,
  pace: number,
): { now: () => void; soon: () => void; stop: () => void } {
  const stopper = new AbortController();
  let busy = false;
  let wanted = false;
  let last = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  async function now(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    if (busy) {
      wanted = true;
      return;
    }
    busy = true;
    wanted = false;
    try {
      const data = await ask(stopper.signal);
      if (!stopper.signal.aborted) take(data, null);
    } catch (error) {
      if (!stopper.signal.aborted) take(null, error);
    }
    busy = false;
    last = Date.now();
    if (wanted && !stopper.signal.aborted) soon();
  }

  function soon(): void {
    if (busy) wanted = true;
    else timer ??= setTimeout(() => void now(), Math.max(0, last + pace - Date.now()));
  }

  return {
    now: () => void now(),
    soon,
    stop: () => {
      stopper.abort();
      clearTimeout(timer);
    },
  };
}
