import type { Bar, Lane, Segment, Stage, TimelineRow } from "./shape";

/** Cut an attempt into waiting, queued and running; what has not ended goes on until `now`. */
export function segmentsOf(row: TimelineRow, now: number): Segment[] {
  const end = row.ended ?? now;
  const marks: [Stage, number | null][] = [
    ["waiting", row.created],
    ["queued", row.queued],
    ["running", row.started],
  ];
  const known = marks.filter((mark): mark is [Stage, number] => mark[1] !== null);
  const segments: Segment[] = [];
  known.forEach(([stage, at], index) => {
    const next = known[index + 1];
    // Clocks of nodes differ: a stage never begins before the one that led to it has.
    const from = Math.max(at, segments.at(-1)?.to ?? at);
    const to = Math.max(from, next ? next[1] : end);
    if (to > from || index === known.length - 1) segments.push({ stage, from, to });
  });
  return segments;
}

export function barOf(row: TimelineRow, now: number): Bar {
  const limit = row.started !== null && row.walltime ? row.started + row.walltime : null;
  return { row, segments: segmentsOf(row, now), limit };
}

/** Join the attempts of each task run in one lane, in the order in which the rows come. */
export function lanesOf(rows: readonly TimelineRow[], now: number): Lane[] {
  const lanes = new Map<string, Lane>();
  for (const row of rows) {
    const bar = barOf(row, now);
    const from = bar.segments[0]?.from ?? row.created ?? now;
    const to = bar.segments.at(-1)?.to ?? from;
    const lane = lanes.get(row.id);
    if (lane === undefined) {
      lanes.set(row.id, { id: row.id, name: row.name, task: row.task, bars: [bar], from, to });
      continue;
    }
    lane.bars.push(bar);
    lane.bars.sort((a, b) => a.row.attempt - b.row.attempt);
    lane.from = Math.min(lane.from, from);
    lane.to = Math.max(lane.to, to);
  }
  return [...lanes.values()];
}

/** The attempt whose drawing lies at the time, or the nearest one. */
export function barAt(lane: Lane, time: number): Bar | undefined {
  const distance = (bar: Bar): number => {
    const from = bar.segments[0]?.from ?? lane.from;
    const to = bar.segments.at(-1)?.to ?? from;
    return time < from ? from - time : Math.max(0, time - to);
  };
  return [...lane.bars].sort((a, b) => distance(a) - distance(b))[0];
}
