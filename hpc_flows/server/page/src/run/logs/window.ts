/** The part of a log that a view holds, and what comes to it. */

import type { LogRecord, LogsAnswer } from "../shapes";

/** Records that are held, and stand in the document, at most. */
const MOST = 600;

type Cursor = string | number;

export interface Window {
  items: LogRecord[];
  /** From where older ones go on; null: there are none. */
  olderFrom: Cursor | null;
  /** Whether there are newer ones than those held. */
  newer: boolean;
  /** From where those that have come since are asked for; null: nothing was asked for yet. */
  arrived: string | null;
  dropped: number;
}

export const NOTHING: Window = { items: [], olderFrom: null, newer: false, arrived: null, dropped: 0 };

export function cursorOf(record: LogRecord): Cursor {
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
    ...window,
    items: all.slice(0, MOST),
    olderFrom: found.next,
    newer: window.newer || all.length > MOST,
    dropped: found.dropped,
  };
}

/** Put newer records behind; the oldest leave when there are too many. */
export function withNewer(window: Window, found: LogsAnswer): Window {
  const all = merged(window.items, found.items);
  return { ...cutOff(window, all), newer: found.next !== null, dropped: found.dropped };
}

/** The newest page, in the place of what is held. */
export function withNewest(_: Window, found: LogsAnswer): Window {
  const items = [...found.items].sort(compare);
  return { items, olderFrom: found.next, newer: false, arrived: found.arrived ?? null, dropped: found.dropped };
}

/** Put each record that has come since in its place; what is older than all held is read with those. */
export function withArrived(window: Window, found: LogsAnswer): Window {
  const oldest = window.olderFrom === null ? undefined : window.items[0];
  const here = found.items.filter((item) => oldest === undefined || compare(oldest, item) < 0);
  const arrived = found.arrived ?? window.arrived;
  return { ...cutOff(window, merged(window.items, here)), newer: false, arrived, dropped: found.dropped };
}

/** Hold the newest of some records, and no more than may be held. */
function cutOff(window: Window, all: LogRecord[]): Window {
  const items = all.slice(-MOST);
  return { ...window, items, olderFrom: all.length > MOST ? cursorOf(items[0]!) : window.olderFrom };
}
