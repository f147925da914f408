/** Throughput: how many flow runs completed (up) and failed (down) in each slice of time. */

import { useMemo } from "preact/hooks";
import uPlot from "uplot";
import type { Dashboard } from "../api/types";
import { count } from "../clock";
import { colour } from "../theme";
import { axis, timeAxis, usePlot } from "./plot";

const HEIGHT = 130;

export function Strip({ strip, from, to }: { strip: Dashboard["strip"]; from: number; to: number }) {
  const data = useMemo<uPlot.AlignedData>(
    () => [
      strip.map((slice) => slice.t),
      strip.map((slice) => slice.completed || null),
      strip.map((slice) => (slice.failed ? -slice.failed : null)),
    ],
    [strip],
  );
  const completed = strip.reduce((sum, slice) => sum + slice.completed, 0);
  const failed = strip.reduce((sum, slice) => sum + slice.failed, 0);
  const { place } = usePlot(
    () => ({
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { time: true, range: () => [from, to] },
        y: { range: (_, low, high) => [Math.min(0, low ?? 0) * 1.1, Math.max(4, (high ?? 0) * 1.1)] },
      },
      axes: [
        timeAxis(),
        axis({
          size: 44,
          space: 26,
          values: (_, splits) =>
            splits.map((n) => (Number.isInteger(n) ? count(Math.abs(n)) : "")),
        }),
      ],
      series: [{}, bars("--state-completed"), bars("--state-failed")],
    }),
    data,
    HEIGHT,
    `${from}-${to}`,
  );
  return (
    <figure class="chart">
      <div
        ref={place}
        class="plot"
        role="img"
        aria-label={`${count(completed)} flow runs completed and ${count(failed)} failed or crashed in this time`}
      />
      <figcaption class="small soft">
        <span class="swatch s-completed">{count(completed)} completed</span>
        <span class="swatch s-failed">{count(failed)} failed or crashed (downwards)</span>
      </figcaption>
    </figure>
  );
}

function bars(variable: string): uPlot.Series {
  return {
    stroke: () => colour(variable),
    fill: () => colour(variable),
    width: 0,
    points: { show: false },
    ...(uPlot.paths.bars ? { paths: uPlot.paths.bars({ size: [0.8, 14], align: 1 }) } : {}),
  };
}
