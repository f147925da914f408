/** Lists: sortable headings, pages, and rows that the keys j, k and Enter walk through. */

import type { ComponentChildren } from "preact";
import type { Loaded } from "../api/load";
import type { Page } from "../api/types";
import { useEffect, useState } from "preact/hooks";
import { count } from "../clock";
import { type Key, useKeys } from "../keyboard";
import { route, setQuery } from "../routing/route";
import { Empty } from "./frame";

/** A heading that sorts by `by`; the address keeps it as `sort`, with "-" before for descending. */
export function SortHead({
  by,
  normal,
  children,
  right = false,
}: {
  by: string;
  /** The order when the address names none. */
  normal: string;
  children: ComponentChildren;
  right?: boolean;
}) {
  const sort = route.value.query.get("sort") ?? normal;
  const down = sort === `-${by}`;
  const up = sort === by;
  const next = down ? by : `-${by}`;
  return (
    <th
      scope="col"
      class={right ? "right" : undefined}
      aria-sort={down ? "descending" : up ? "ascending" : undefined}
    >
      <button type="button" onClick={() => setQuery({ sort: next === normal ? null : next, offset: null })}>
        {children}
        <span aria-hidden="true">{down ? "↓" : up ? "↑" : ""}</span>
      </button>
    </th>
  );
}

/** Which page of a list the address asks for. */
export function offsetOf(query: URLSearchParams): number {
  const n = Number(query.get("offset") ?? 0);
  return Number.isInteger(n) && n > 0 ? n : 0;
}

/** `51–100 of 1,234`, and the ways to the pages beside. */
export function Pager({
  offset,
  limit,
  list,
}: {
  offset: number;
  limit: number;
  list: Loaded<Page<unknown>>;
}) {
  // While another page is on its way, `list` is still the one before: it says nothing of this one.
  const page = list.loading ? null : list.data;
  const total = list.data?.total ?? null;
  const shown = page?.items.length ?? 0;
  const more = page === null ? false : page.next !== null;
  const back = () => setQuery({ offset: Math.max(0, offset - limit) || null }, { push: true });
  const on = () => more && setQuery({ offset: offset + limit }, { push: true });
  useKeys([
    { keys: "[", does: "page before", act: () => offset > 0 && back() },
    { keys: "]", does: "next page", act: on },
  ]);
  if (list.data === null || (offset === 0 && page !== null && !more)) return null;
  return (
    <nav class="pager" aria-label="Pages of the list">
      <span class="num soft">
        {page === null
          ? "…"
          : shown === 0
            ? "nothing here"
            : `${count(offset + 1)}–${count(offset + shown)}`}
        {total !== null && ` of ${count(total)}`}
      </span>
      <button type="button" disabled={offset === 0} onClick={back}>
        Before
      </button>
      <button type="button" disabled={!more} onClick={on}>
        Next
      </button>
    </nav>
  );
}

/** Nothing is listed: because of the filters, which one press takes away, or because there is none. */
export function Nothing({
  what,
  filters,
  children,
}: {
  /** In the plural: `artifacts`. */
  what: string;
  /** Names of the filters of this place. */
  filters: readonly string[];
  children: ComponentChildren;
}) {
  if (!filters.some((name) => route.value.query.has(name)))
    return <Empty title={`There are no ${what} yet.`}>{children}</Empty>;
  const none = Object.fromEntries([...filters, "offset"].map((name) => [name, null]));
  return (
    <Empty title={`There are no ${what} like that.`}>
      <button type="button" class="link" onClick={() => setQuery(none)}>
        Take all filters away
      </button>
    </Empty>
  );
}

/** The row that the keys act on. */
export interface Walk {
  at: number;
  /** For `class` of a row. */
  mark: (index: number) => string | undefined;
}

/** Let j and k walk through `length` rows, and Enter open one; `more` are keys of the list's own. */
export function useWalk(
  length: number,
  open: (index: number) => void,
  more: (at: number) => Key[] = () => [],
): Walk {
  const [at, setAt] = useState(-1);
  useEffect(() => {
    if (at >= length) setAt(length - 1);
  }, [length]);
  useEffect(() => {
    document.querySelector("tr.at, li.at")?.scrollIntoView({ block: "nearest" });
  }, [at]);
  useKeys([
    { keys: "j", does: "next row", act: () => setAt(Math.min(length - 1, at + 1)) },
    { keys: "k", does: "row before", act: () => setAt(Math.max(0, at - 1)) },
    { keys: "Enter", does: "open the row", act: () => at >= 0 && at < length && open(at) },
    ...more(at),
  ]);
  return { at, mark: (index) => (index === at ? "at" : undefined) };
}
