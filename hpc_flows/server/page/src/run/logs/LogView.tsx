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
  /** Whether there are older and newer ones than those held. */
  older: boolean;
  newer: boolean;
  dropped: number;
}

const NOTHING: Window = { items: [], older: true, newer: false, dropped: 0 };

function cursorOf(record: LogRecord): Cursor {
  return record.cursor ?? record.id;
}

/** Join records before or behind; those at the other end leave when there are too many. */
export function joined(window: Window, found: LogsAnswer, direction: "older" | "newer"): Window {
  const held = new Set(window.items.map((item) => item.id));
  const fresh = found.items.filter((item) => !held.has(item.id));
  const isMore = found.items.length >= STEP;
  if (direction === "older") {
    const all = [...fresh.reverse(), ...window.items];
    const cut = all.length > MOST;
    const items = cut ? all.slice(0, MOST) : all;
    return { items, older: isMore, newer: window.newer || cut, dropped: found.dropped };
  }
  const all = [...window.items, ...fresh];
  const cut = all.length > MOST;
  const items = cut ? all.slice(-MOST) : all;
  return { items, older: window.older || cut, newer: isMore, dropped: found.dropped };
}

export function LogView(props: Props) {
  const box = useRef<HTMLDivElement>(null);
  const log = useLog(props, box);
  const { items } = log.window;
  if (log.error !== null && items.length === 0) return <p class="notice error" role="alert">{log.error}</p>;
  if (!log.loaded) return <p class="loading" role="status">Loading…</p>;
  const onScroll = (): void => {
    const node = box.current!;
    const below = node.scrollHeight - node.scrollTop - node.clientHeight;
    if (node.scrollTop < NEAR && log.window.older) void log.more("older");
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
        {items.length === 0 && <p class="empty">No record is like that.</p>}
        {!log.window.older && items.length > 0 && <p class="log-edge">the beginning</p>}
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
      <span class="level">{isOutput ? "output" : level.toLowerCase()}</span>
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

/** Load the newest records, more at either end, and the newer ones as the run goes on. */
function useLog({ run, query, follow }: Props, box: { current: HTMLDivElement | null }) {
  const [window, setWindow] = useState<Window>(NOTHING);
  const [loaded, setLoaded] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const now = useRef({ window, busy: false, query, stop: new AbortController() });
  const before = useRef<{ height: number; top: number } | null>(null);
  now.current.window = window;
  now.current.query = query;
  const key = JSON.stringify(query);

  const more = async (direction: "older" | "newer"): Promise<void> => {
    const state = now.current;
    if (state.busy) return;
    state.busy = true;
    const stop = state.stop;
    try {
      const found = await get<LogsAnswer>("logs", ask(state.query, state.window, direction), stop.signal);
      if (stop.signal.aborted) return;
      const node = box.current;
      before.current = node && direction === "older" ? { height: node.scrollHeight, top: node.scrollTop } : null;
      setWindow((held) => joined(held, found, direction));
      setError(null);
      setLoaded(true);
    } catch (failure) {
      if (!stop.signal.aborted) setError(asSentence(failure));
    } finally {
      if (stop === now.current.stop) state.busy = false;
    }
  };

  useEffect(() => {
    const state = now.current;
    state.stop = new AbortController();
    state.busy = false;
    state.window = NOTHING;
    setWindow(NOTHING);
    setLoaded(false);
    void more("older");
    return () => now.current.stop.abort();
  }, [key]);

  useEffect(() => onNews(run, () => {
    if (now.current.window.items.length === 0) void more("older");
    else if (!now.current.window.newer || follow) void more("newer");
  }), [run, key, follow]);

  useLayoutEffect(() => {
    const node = box.current;
    if (node === null) return;
    if (before.current !== null && !follow) {
      node.scrollTop = before.current.top + node.scrollHeight - before.current.height;
    }
    before.current = null;
    if (follow) node.scrollTop = node.scrollHeight;
    if (follow && window.newer) void more("newer");
  }, [window, follow, loaded]);

  return { window, loaded, error, more };
}

function ask(query: Query, held: Window, direction: "older" | "newer"): Query {
  const edge = direction === "older" ? held.items[0] : held.items.at(-1);
  const from = edge === undefined ? null : cursorOf(edge);
  return direction === "older"
    ? { ...query, order: "desc", before: from, limit: STEP }
    : { ...query, order: "asc", after: from, limit: STEP };
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
