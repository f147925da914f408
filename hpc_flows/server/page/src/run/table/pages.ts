/** A long list of the server of which only the pages in sight are fetched and kept. */

import { effect } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";
import { apiUrl, asSentence, get } from "../../api/client";
import { changes, versions } from "../../api/live";
import type { Page } from "../../api/types";
import type { Query } from "../../routing/route";

const SIZE = 100;
/** Pages that stay in memory: enough to scroll back and forth. */
const KEPT = 30;
/** ms between two loads that changes of the run caused, and before a page in passing is asked for. */
const PACE = 1000;
const SETTLE = 80;

interface Kept<T> {
  items: T[];
  stale: boolean;
  used: number;
}

/** Fetches pages as they come into sight; one request at a time. */
class Pages<T> {
  total: number | null = null;
  /** Whether the server has counted, or there are at least so many. */
  isCounted = true;
  error: string | null = null;
  private readonly kept = new Map<number, Kept<T>>();
  private sight: [number, number] = [0, 0];
  private turn = 0;
  private busy = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly stopper = new AbortController();

  constructor(
    private readonly path: string,
    private readonly query: Query,
    private readonly tell: () => void,
  ) {}

  item(index: number): T | undefined {
    return this.kept.get(Math.floor(index / SIZE))?.items[index % SIZE];
  }

  see(first: number, last: number): void {
    this.sight = [Math.floor(first / SIZE), Math.floor(Math.max(first, last) / SIZE)];
    this.later(SETTLE);
  }

  /** The run has changed: what is in sight is asked for again, the rest once it is seen. */
  change(): void {
    for (const page of this.kept.values()) page.stale = true;
    this.later(PACE);
  }

  stop(): void {
    this.stopper.abort();
    clearTimeout(this.timer);
  }

  private later(wait: number): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      void this.load();
    }, wait);
  }

  private next(): number | null {
    for (let page = this.sight[0]; page <= this.sight[1]; page += 1) {
      const had = this.kept.get(page);
      if (had === undefined || had.stale) return page;
    }
    return null;
  }

  async load(): Promise<void> {
    const page = this.next();
    if (this.busy || page === null || this.stopper.signal.aborted) return;
    this.busy = true;
    try {
      const query = { ...this.query, limit: SIZE, offset: page * SIZE };
      const answer = await get<Page<T>>(this.path, query, this.stopper.signal);
      this.keep(page, answer);
      this.error = null;
    } catch (error) {
      if (this.stopper.signal.aborted) return;
      this.error = asSentence(error);
    } finally {
      this.busy = false;
    }
    this.tell();
    if (this.error === null) void this.load();
    else this.later(5 * PACE);
  }

  private keep(page: number, answer: Page<T>): void {
    this.turn += 1;
    this.kept.set(page, { items: answer.items, stale: false, used: this.turn });
    const known = page * SIZE + answer.items.length;
    this.isCounted = answer.total !== null || answer.next === null;
    this.total = answer.total ?? Math.max(this.total ?? 0, known + (answer.next === null ? 0 : 1));
    if (this.kept.size <= KEPT) return;
    const oldest = [...this.kept].sort((a, b) => a[1].used - b[1].used)[0]!;
    this.kept.delete(oldest[0]);
  }
}

export interface Listed<T> {
  total: number | null;
  isCounted: boolean;
  error: string | null;
  item: (index: number) => T | undefined;
  see: (first: number, last: number) => void;
}

/** Keep a list of the server, which is loaded again in sight when the root run changes. */
export function usePages<T>(path: string, query: Query, run: string): Listed<T> {
  const [, draw] = useState(0);
  const url = apiUrl(path, query);
  const pages = useMemo(() => new Pages<T>(path, query, () => draw((n) => n + 1)), [url]);
  useEffect(() => {
    void pages.load();
    let seen: number | undefined;
    const forget = effect(() => {
      const polled = changes.value;
      const version = versions.value.get(run) ?? polled;
      if (seen !== undefined && version !== seen) pages.change();
      seen = version;
    });
    return () => {
      forget();
      pages.stop();
    };
  }, [pages, run]);
  return useMemo(
    () => ({
      get total() {
        return pages.total;
      },
      get isCounted() {
        return pages.isCounted;
      },
      get error() {
        return pages.error;
      },
      item: (index: number) => pages.item(index),
      see: (first: number, last: number) => pages.see(first, last),
    }),
    [pages],
  );
}
