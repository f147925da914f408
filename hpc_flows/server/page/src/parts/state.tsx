/** States: an icon of its own shape, a word, and bars of counts. */

import { count } from "../clock";
import { asStateType, LOOKS, STATE_TYPES, type StateType } from "../states";
import type { Counts } from "../api/types";

/** The icon of a state type: a filled disc for ends, a ring for what goes on. */
export function StateIcon({ type, size = 16 }: { type: string; size?: number }) {
  const known = asStateType(type);
  const look = LOOKS[known];
  return (
    <svg
      class={`state-icon s-${known.toLowerCase()} ${look.filled ? "filled" : "open"}`}
      width={size}
      height={size}
      viewBox="0 0 16 16"
      aria-hidden="true"
    >
      <circle cx="8" cy="8" r={look.filled ? 7.5 : 6.6} />
      <path d={look.strokes} />
    </svg>
  );
}

/** Icon and word; the word is the finer name (`OutOfMemory`) when there is one. */
export function StateBadge({ type, name }: { type: string; name?: string | null }) {
  const known = asStateType(type);
  return (
    <span class={`state s-${known.toLowerCase()}`} title={`${LOOKS[known].word}: ${LOOKS[known].meaning}`}>
      <StateIcon type={known} />
      <span>{name ? words(name) : LOOKS[known].word}</span>
    </span>
  );
}

/** `OutOfMemory` → `Out of memory`. */
export function words(name: string): string {
  const spaced = name.replace(/([a-z])([A-Z])/g, (_, a: string, b: string) => `${a} ${b.toLowerCase()}`);
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

/** Why a job waits, in words, with the scheduler's own word for it where those do not have it. */
export function Why({ reason, words: said }: { reason: string; words: string | null }) {
  const told = said || reason;
  return told.includes(reason) ? <>{told}</> : <>{told} <code class="faint">{reason}</code></>;
}

/** `9,889 pending, 165 running`, for people who hear the page. */
export function countsInWords(counts: Counts): string {
  const parts = present(counts).map(([type, n]) => `${count(n)} ${LOOKS[type].word.toLowerCase()}`);
  return parts.length ? parts.join(", ") : "none";
}

function present(counts: Counts): [StateType, number][] {
  return STATE_TYPES.flatMap((type): [StateType, number][] => {
    const n = counts[type] ?? 0;
    return n > 0 ? [[type, n]] : [];
  });
}

/** A bar whose pieces are as long as the counts of the types; a piece is never thinner than 2 px. */
export function StateBar({ counts, total }: { counts: Counts; total?: number }) {
  const parts = present(counts);
  const sum = parts.reduce((all, [, n]) => all + n, 0);
  const rest = Math.max(0, (total ?? sum) - sum);
  const text = countsInWords(counts);
  return (
    <span class="state-bar" role="img" aria-label={text} title={text}>
      {parts.map(([type, n]) => (
        <span key={type} class={`piece s-${type.toLowerCase()}`} style={{ flexGrow: n }} />
      ))}
      {rest > 0 && <span class="piece rest" style={{ flexGrow: rest }} />}
    </span>
  );
}
