/** Times as people read them, and what time it is. */

import { signal } from "@preact/signals";
import { DAY, HOUR, MINUTE, two } from "./durations";
import { beyond, iso } from "./moments";

export { duration, plainDuration } from "./durations";

/** Now, in seconds since 1970; rises once a second while the tab is seen. */
export const now = signal(Date.now() / 1000);

setInterval(() => {
  if (!document.hidden) now.value = Date.now() / 1000;
}, 1000);
addEventListener("visibilitychange", () => {
  if (!document.hidden) now.value = Date.now() / 1000;
});

/** `just now`, `40 s ago`, `in 3 min`: one part, for what is beside an exact time. */
export function relative(time: number, at: number): string {
  const gap = at - time;
  if (Math.abs(gap) < 5) return "just now";
  return gap > 0 ? `${rough(gap)} ago` : `in ${rough(-gap)}`;
}

/** `40 s`, `6 min`, `3 h`, `5 d`: a duration in one part, rounded down, seconds in steps of five. */
export function rough(seconds: number): string {
  if (seconds < MINUTE) return `${Math.floor(seconds / 5) * 5} s`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min`;
  if (seconds < 2 * DAY) return `${Math.floor(seconds / HOUR)} h`;
  return `${Math.floor(seconds / DAY)} d`;
}

const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

/** `Nov 21, 2026, 16:45:03 UTC`, in the zone of the person who looks. */
export function exact(time: number): string {
  return iso(time) === null ? beyond(time) : EXACT.format(time * 1000);
}

/** `16:45:03` today, `20 Nov 16:45` this year, `2025-11-20 16:45` before. */
export function short(time: number, at: number = Date.now() / 1000): string {
  if (iso(time) === null) return beyond(time);
  const when = new Date(time * 1000);
  const today = new Date(at * 1000);
  const clock = `${two(when.getHours())}:${two(when.getMinutes())}`;
  if (when.toDateString() === today.toDateString()) return `${clock}:${two(when.getSeconds())}`;
  if (when.getFullYear() === today.getFullYear())
    return `${when.getDate()} ${MONTHS[when.getMonth()]} ${clock}`;
  return `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())} ${clock}`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun"].concat(
  ["Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
);

/** `1,234,567`; tabular figures come from the style. */
export function count(n: number): string {
  return n.toLocaleString("en-US");
}

/** The word with its number: `1 run`, `2 runs`. */
export function counted(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}
