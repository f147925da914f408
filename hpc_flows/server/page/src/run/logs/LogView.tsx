/** Log records: a window of them that moves with the reader, or follows the newest. */

import { effect } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { asSentence, get } from "../../api/client";
import { changes, versions } from "../../api/live";
import type { Query } from "../../routing/route";
import { taskRunHref } from "../places";
import type { LogRecord, LogsAnswer } from "../shapes";
import { pieces } from "./ansi";
import { memo } from "./memo";
import { highlighted, levelName } from "./search";

/** Records that are asked for at once, and that are in the document at most. */
const STEP = 200;
const MOST = 600;
/** ms between two looks for newer records. */
const PACE = 500;
/** Pixels from an edge at which more is asked for. */
const NEAR = 300;

interface Props {
  /** Root run, whose changes say that there may be more. */
  run: string;
  query: Query;
  follow: boolean;
  onFollow: (follow: boolean) => void;
  wrap: boolean;
  search: string;
  /** Show which task run each record is of. */
  merged: boolean;
}

type Cursor = string | number;

interface Window {
  items: LogRecord[];
  /** From where older ones go on; null: there are none. */
  olderFrom: Cursor | null;
  /** Whether there are newer ones than those held. */
  newer: boolean;
  dropped: number;
}

const NOTHING: Window = { items: [], olderFrom: null, newer: false, dropped: 0 };

function cursorOf(record: LogRecord): Cursor {
  return record.cursor ?? record.id;
}

/** By time, and what is of one time by its number. */
function compare(a: LogRecord, b: LogRecord): number {
  const [left, right] = [String(a.id), String(b.id)];
  return a.t - b.t || left.length - right.length || (left < right ? -1 : Number(left > right));
}

/** All of both in their order, each once; records of other nodes may come late and belong between. */
function merged(held: readonly LogRecord[], found: readonly LogRecord[]): LogRecord[] {
  const known = new Set(held.map((item) => item.id));
  return [...held, ...found.filter((item) => !known.has(item.id))].sort(compare);
}

/** Put older records before; the newest leave when there are too many. */
export function withOlder(window: Window, found: LogsAnswer): Window {
  const all = merged(window.items, found.items);
  return {
    items: all.slice(0, MOST),
    olderFrom: found.next,
    newer: window.newer || all.length > MOST,
    dropped: found.dropped,
  };
}

/** Put newer records behind; the oldest leave when there are too many. */
export function withNewer(window: Window, found: LogsAnswer): Window {
  const all = merged(window.items, found.items);
  const items = all.slice(-MOST);
  const olderFrom = all.length > MOST ? cursorOf(items[0]!) : window.olderFrom;
  return { items, olderFrom, newer: found.next !== null, dropped: found.dropped };
}

/** Join the newest page; where it does not reach what is held, it takes its place. */
export function withNewest(window: Window, found: LogsAnswer): Window {
  const known = new Set(window.items.map((item) => item.id));
  const touches = found.next === null || found.items.some((item) => known.has(item.id));
  if (touches && window.items.length > 0) return { ...withNewer(window, found), newer: false };
  return { items: [...found.items].sort(compare), olderFrom: found.next, newer: false, dropped: found.dropped };
}

export function LogView(props: Props) {
  const box = useRef<HTMLDivElement>(null);
  const log = useLog(props, box);
  const { items } = log.window;
  if (log.error !== null && items.length === 0) return <p class="notice error" role="alert">{log.error}</p>;
  if (!log.loaded) return <p class="loading" role="status">Loading…</p>;
  const onScroll = (): void => {
    const node = box.current;
    if (node === null) return; // the event of a view that was left meanwhile
    const below = node.scrollHeight - node.scrollTop - node.clientHeight;
    if (node.scrollTop < NEAR && log.window.olderFrom !== null) void log.more("older");
    if (below < NEAR && log.window.newer) void log.more("newer");
    if (props.follow && below > 60) props.onFollow(false);
    else if (!props.follow && below < 4 && !log.window.newer) props.onFollow(true);
  };
  return (
    <>
      {log.window.dropped > 0 && (
        <p class="notice warn">{log.window.dropped.toLocaleString()} records were lost while a disk was full.</p>
      )}
      {log.error !== null && <p class="notice error" role="alert">{log.error}</p>}
      <div
        ref={box}
        class={`log${props.wrap ? " wrap" : ""}`}
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label="Log records"
        onScroll={onScroll}
      >
        {items.length === 0 && <p class="empty">No record is like that{log.window.olderFrom === null ? "" : " among the newest"}.</p>}
        {items.length > 0 && log.window.olderFrom === null && <p class="log-edge">the beginning</p>}
        {log.window.olderFrom !== null && (
          <p class="log-edge">
            <button type="button" class="link" onClick={() => void log.more("older")}>Look further back</button>
          </p>
        )}
        {items.map((record) => (
          <Line
            key={record.id}
            record={record}
            search={props.search}
            name={props.merged ? nameOf(record) : null}
          />
        ))}
      </div>
    </>
  );
}

function nameOf(record: LogRecord): string {
  if (record.task_run === null) return "flow";
  return record.task_run_name || record.task_run.slice(0, 8);
}

interface LineProps {
  record: LogRecord;
  search: string;
  name: string | null;
}

const Line = memo(function Line({ record, search, name }: LineProps) {
  const time = new Date(record.t * 1000);
  const level = levelName(record.level);
  const isOutput = record.logger === "hpc_flows.task_runs.output";
  return (
    <div class={`log-line l-${level.toLowerCase()}${isOutput ? " output" : ""}`}>
      <time dateTime={time.toISOString()} title={time.toLocaleString()}>{clockOf(time)}</time>
      <span class="log-level">{isOutput ? "output" : level.toLowerCase()}</span>
      {name !== null &&
        (record.task_run === null ? (
          <span class="who">{name}</span>
        ) : (
          <a class="who" href={taskRunHref(record.task_run)} title={name.slice(0, 500)}><bdi>{name.slice(0, 100)}</bdi></a>
        ))}
      <Text text={record.message} search={search} />
    </div>
  );
});

function clockOf(time: Date): string {
  const text = `${time.toTimeString().slice(0, 8)}.${String(time.getMilliseconds()).padStart(3, "0")}`;
  return time.toDateString() === new Date().toDateString() ? text : `${time.getMonth() + 1}-${time.getDate()} ${text}`;
}

/** A message in the colours of a terminal, as plain text nodes. */
export function Text({ text, search }: { text: string; search: string }) {
  return (
    <span class="text" dir="auto">
      {pieces(text).map((piece, index) => {
        const look = [
          piece.colour === null ? "" : `c${piece.colour}`,
          piece.bold ? "bold" : "",
          piece.dim ? "dim" : "",
          piece.italic ? "italic" : "",
          piece.underline ? "underline" : "",
        ].filter(Boolean);
        const parts = highlighted(piece.text, search);
        return (
          <span key={index} class={look.join(" ") || undefined}>
            {parts.map((part) => (part.hit ? <mark>{part.text}</mark> : part.text))}
          </span>
        );
      })}
    </span>
  );
}

type Direction = "newest" | "older" | "newer";

const JOIN = { newest: withNewest, older: withOlder, newer: withNewer };

function ask(query: Query, held: Window, direction: Direction): Query {
  const last = held.items.at(-1);
  if (direction === "newer" && last) return { ...query, order: "asc", after: cursorOf(last), limit: STEP };
  const before = direction === "older" ? held.olderFrom : null;
  return { ...query, order: "desc", before, limit: STEP };
}

/** Load the newest records, more at either end, and the newer ones as the run goes on. */
function useLog({ run, query, follow }: Props, box: { current: HTMLDivElement | null }) {
  const [window, setWindow] = useState<Window>(NOTHING);
  const [loaded, setLoaded] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const now = useRef({ window, query, follow, busy: false, again: false, stop: new AbortController() });
  const before = useRef<{ height: number; top: number } | null>(null);
  Object.assign(now.current, { window, query, follow });
  const key = JSON.stringify(query);

  const more = async (direction: Direction): Promise<void> => {
    const state = now.current;
    if (state.busy) {
      state.again ||= direction === "newest";
      return;
    }
    state.busy = true;
    const { stop } = state;
    try {
      const found = await get<LogsAnswer>("logs", ask(state.query, state.window, direction), stop.signal);
      if (stop.signal.aborted) return;
      const node = box.current;
      before.current = node && direction === "older" ? { height: node.scrollHeight, top: node.scrollTop } : null;
      setWindow((held) => JOIN[direction](held, found));
      setError(null);
      setLoaded(true);
    } catch (failure) {
      if (!stop.signal.aborted) setError(asSentence(failure));
    }
    if (stop !== state.stop) return;
    state.busy = false;
    if (state.again) {
      state.again = false;
      void more("newest");
    }
  };

  useEffect(() => {
    const state = now.current;
    Object.assign(state, { stop: new AbortController(), busy: false, again: false });
    setWindow(NOTHING);
    setLoaded(false);
    void more("newest");
    return () => state.stop.abort();
  }, [key]);

  // Who reads further up is not disturbed: newer ones are noted and come when the end is reached.
  useEffect(() => onNews(run, () => {
    if (now.current.follow) void more("newest");
    else setWindow((held) => ({ ...held, newer: true }));
  }), [run, key]);

  useLayoutEffect(() => {
    const node = box.current;
    if (node === null) return undefined;
    const was = before.current;
    before.current = null;
    if (follow) return toTheEnd(node, () => now.current.follow);
    if (was !== null) node.scrollTop = was.top + node.scrollHeight - was.height;
    return undefined;
  }, [window, follow, loaded]);

  useEffect(() => {
    if (follow && loaded && now.current.window.newer) void more("newest");
  }, [follow]);

  return { window, loaded, error, more };
}

/** Lines out of sight have a guessed height: as they come into sight, the end moves away. */
function toTheEnd(node: HTMLElement, goesOn: () => boolean): () => void {
  let left = 8;
  let frame = 0;
  const step = (): void => {
    if (!goesOn()) return;
    node.scrollTop = node.scrollHeight;
    left -= 1;
    if (left > 0) frame = requestAnimationFrame(step);
  };
  step();
  return () => cancelAnimationFrame(frame);
}

function onNews(run: string, act: () => void): () => void {
  let seen: number | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const forget = effect(() => {
    const polled = changes.value;
    const version = versions.value.get(run) ?? polled;
    if (seen !== undefined && version !== seen) {
      timer ??= setTimeout(() => {
        timer = undefined;
        act();
      }, PACE);
    }
    seen = version;
  });
  return () => {
    forget();
    clearTimeout(timer);
  };
}
