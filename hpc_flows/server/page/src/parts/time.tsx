/** Times in a page: short or relative, with the exact one as tooltip. */

import { duration, exact, now, relative, short } from "../clock";
import { iso } from "../moments";

/** A time: `16:45:03`, or `3 min ago` with `ago`. Renders a dash for null. */
export function Time({ at, ago = false }: { at: number | null | undefined; ago?: boolean }) {
  if (at === null || at === undefined) return <span class="faint">–</span>;
  return (
    <time dateTime={iso(at) ?? undefined} title={exact(at)}>
      {ago ? <Ago at={at} /> : short(at)}
    </time>
  );
}

function Ago({ at }: { at: number }) {
  return <>{relative(at, now.value)}</>;
}

/** A duration; without an end it grows while one looks. */
export function Span({
  from,
  to,
}: {
  from: number | null | undefined;
  to: number | null | undefined;
}) {
  if (from === null || from === undefined) return <span class="faint">–</span>;
  if (to === null || to === undefined) return <Growing from={from} />;
  return <span class="num">{duration(to - from)}</span>;
}

function Growing({ from }: { from: number }) {
  return <span class="num">{duration(Math.max(0, now.value - from))}</span>;
}
