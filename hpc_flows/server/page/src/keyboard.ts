/**
 * Keys of the page. A view adds its own with `useKeys`; keys never act while a person types, and
 * never with Ctrl, Alt or Meta, which belong to the browser.
 */

import { signal, untracked } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";

export interface Key {
  /** `j`, `Enter`, `/`, or two in turn: `g r`. */
  keys: string;
  /** What it does, for the list under `?`. */
  does: string;
  act: () => void;
}

/** Each view's keys, in a box that holds those of its newest drawing: a fast second key meets them. */
interface Box {
  current: readonly Key[];
}

const boxes = signal<readonly Box[]>([]);

/** Whether the list of keys is shown. */
export const helpShown = signal(false);

/** All keys that act now, the newest view's first. */
export function keysNow(): Key[] {
  return [...boxes.value].reverse().flatMap((box) => [...box.current]);
}

/** Let keys act while the component is shown. */
export function useKeys(keys: readonly Key[]): void {
  const box = useRef<readonly Key[]>(keys);
  box.current = keys;
  useLayoutEffect(() => {
    boxes.value = [...boxes.peek(), box];
    return () => {
      boxes.value = boxes.peek().filter((each) => each !== box);
    };
  }, []);
}

/** ms within which the second key of a pair must follow. */
const PAIR = 1200;
let first: { key: string; at: number } | null = null;

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || isTyping(event)) return;
  const pair = first !== null && Date.now() - first.at < PAIR ? `${first.key} ${event.key}` : null;
  first = null;
  const known = untracked(keysNow);
  const found = known.find((key) => key.keys === pair) ?? known.find((key) => key.keys === event.key);
  if (found !== undefined) {
    if (event.key === "Enter" && isControl(event.target)) return;
    event.preventDefault();
    found.act();
  } else if (known.some((key) => key.keys.startsWith(`${event.key} `))) {
    first = { key: event.key, at: Date.now() };
  }
});

function isTyping(event: KeyboardEvent): boolean {
  const at = event.target;
  if (!(at instanceof HTMLElement)) return false;
  if (at.closest("dialog") !== null && event.key !== "?") return true;
  if (at instanceof HTMLInputElement) return !["checkbox", "radio", "button"].includes(at.type);
  return at instanceof HTMLTextAreaElement || at instanceof HTMLSelectElement || at.isContentEditable;
}

/** Enter on a link or button does what that says, whatever row is marked. */
function isControl(at: EventTarget | null): boolean {
  return at instanceof HTMLElement && at.closest("a, button, summary") !== null;
}
