/** Log records: a window of them that moves with the reader, or follows the newest. */

import { effect } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { asSentence, get } from "../../api/client";
import { changes, versions } from "../../api/live";
import { beyond, iso } from "../../moments";
import type { Query } from "../../routing/route";
import { taskRunHref } from "../places";
import type { LogRecord, LogsAnswer } from "../shapes";
import { pieces } from "./ansi";
import { memo } from "./memo";
import { highlighted, levelName } from "./search";
import { NOTHING, cursorOf, withArrived, withNewer, withNewest, withOlder } from "./window";
import type { Window } from "./window";

/** Records that are asked for at once. */
const STEP = 200;
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
      <time dateTime={iso(record.t) ?? undefined} title={time.toLocaleString()}>{clockOf(time) ?? beyond(record.t)}</time>
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

function clockOf(time: Date): string | null {
  if (Number.isNaN(time.getTime())) return null;
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

type Direction = "newest" | "older" | "newer" | "arrived";

const JOIN = { newest: withNewest, older: withOlder, newer: withNewer, arrived: withArrived };

interface Now {
  window: Window;
  query: Query;
  follow: boolean;
  busy: boolean;
  /** What is asked for as soon as there is an answer to what was. */
  next: Direction | null;
  stop: AbortController;
}

function isAtEnd(direction: Direction): boolean {
  return direction === "newest" || direction === "arrived";
}

function ask(query: Query, held: Window, direction: Direction): Query {
  const last = held.items.at(-1);
  if (direction === "newer" && last) return { ...query, order: "asc", after: cursorOf(last), limit: STEP };
  if (direction === "arrived") return { ...query, arrived: held.arrived, limit: STEP };
  const before = direction === "older" ? held.olderFrom : null;
  return { ...query, order: "desc", before, limit: STEP };
}

/** Load the newest records, more at either end, and the newer ones as the run goes on. */
function useLog({ run, query, follow }: Props, box: { current: HTMLDivElement | null }) {
  const [window, setWindow] = useState<Window>(NOTHING);
  const [loaded, setLoaded] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const now = useRef<Now>({ window, query, follow, busy: false, next: null, stop: new AbortController() });
  const before = useRef<{ height: number; top: number } | null>(null);
  Object.assign(now.current, { window, query, follow });
  const key = JSON.stringify(query);

  const more = async (direction: Direction): Promise<void> => {
    const state = now.current;
    if (state.busy) {
      if (isAtEnd(direction)) state.next = direction;
      return;
    }
    state.busy = true;
    const { stop } = state;
    try {
      const found = await get<LogsAnswer>("logs", ask(state.query, state.window, direction), stop.signal);
      if (stop.signal.aborted) return;
      const node = box.current;
      before.current = node && direction === "older" ? { height: node.scrollHeight, top: node.scrollTop } : null;
      // So many came at once that the last page of them is shown, and not the way there.
      if (direction === "arrived" && found.next !== null) state.next = "newest";
      else setWindow((held) => JOIN[direction](held, found));
      setError(null);
      setLoaded(true);
    } catch (failure) {
      if (!stop.signal.aborted) setError(asSentence(failure));
    }
    if (stop !== state.stop) return;
    state.busy = false;
    const { next } = state;
    state.next = null;
    if (next !== null) void more(next);
  };

  useEffect(() => {
    const state = now.current;
    Object.assign(state, { stop: new AbortController(), busy: false, next: null });
    setWindow(NOTHING);
    setLoaded(false);
    void more("newest");
    return () => state.stop.abort();
  }, [key]);

  // Who reads further up is not disturbed: newer ones are noted and come when the end is reached.
  useEffect(() => onNews(run, () => {
    const { window: held, follow: follows } = now.current;
    if (follows) void more(held.arrived === null || held.newer ? "newest" : "arrived");
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
