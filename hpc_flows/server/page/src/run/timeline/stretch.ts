import type { Range } from "./Chart";
import type { Lane, TaskBins, TimelineAnswer } from "./shape";

/** The stretch of time that is drawn: what was brushed, or else all of it. */
export function stretch(answer: TimelineAnswer, lanes: readonly Lane[], asked: Partial<Range>): Range {
  const froms = lanes.map((lane) => lane.from);
  const tos = lanes.flatMap((lane) => lane.bars.map((bar) => barEnd(lane, bar.limit)));
  const begin = asked.from ?? least(froms) ?? answer.begin ?? 0;
  const end = asked.to ?? greatest(tos) ?? answer.end ?? begin + 1;
  return { from: begin, to: Math.max(end, begin + 0.001) };
}

/** A walltime that was hardly used must not press all bars into a corner. */
function barEnd(lane: Lane, limit: number | null): number {
  const spare = (lane.to - lane.from) * 0.5;
  return limit === null ? lane.to : Math.min(Math.max(limit, lane.to), lane.to + spare);
}

function least(values: number[]): number | null {
  return values.length ? values.reduce((a, b) => Math.min(a, b)) : null;
}

function greatest(values: number[]): number | null {
  return values.length ? values.reduce((a, b) => Math.max(a, b)) : null;
}

/** Bands in the order in which their tasks began. */
export function inOrder(answer: TimelineAnswer): TimelineAnswer {
  if (answer.mode === "rows") return answer;
  const began = (task: TaskBins): number => {
    const at = task.ended.findIndex((_, bin) => task.waiting[bin]! + task.queued[bin]! + task.running[bin]! + task.ended[bin]! > 0);
    return at < 0 ? Infinity : at;
  };
  return { ...answer, tasks: [...answer.tasks].sort((a, b) => began(a) - began(b)) };
}
