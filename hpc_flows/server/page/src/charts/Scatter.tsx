/** Runs as points: when they started × how long they took (log scale), one shape for each state. */

import { useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import type { ScatterPoint } from "../api/types";
import { counted, duration, short } from "../clock";
import { go } from "../routing/route";
import { asStateType, LOOKS, type StateType } from "../states";
import { colour } from "../theme";
import { stateVariable } from "../states";
import { axis, shortDuration, timeAxis, usePlot } from "./plot";

const HEIGHT = 190;
/** Seconds that stand for a duration of zero on a logarithmic scale. */
const LEAST = 0.01;
/** Lines of the axis, at durations that people say. */
const STEPS = [0.01, 0.1, 1, 10, 60, 600, 3600, 21_600, 86_400, 604_800];
/** CSS px within which the pointer finds a point. */
const NEAR = 14;

interface Dot {
  point: ScatterPoint;
  x: number;
  y: number;
}

export function Scatter({
  points,
  at,
  onRange,
}: {
  points: ScatterPoint[];
  /** Until when runs that go on have lasted, in seconds since 1970. */
  at: number;
  /** A range of start times was drawn with the pointer. */
  onRange: (from: number, to: number) => void;
}) {
  const dots = useMemo(() => asDots(points, at), [points, at]);
  const data = useMemo<uPlot.AlignedData>(
    () => [dots.map((dot) => dot.x), dots.map((dot) => dot.y)],
    [dots],
  );
  const [near, setNear] = useState<{ dot: Dot; left: number; top: number } | null>(null);
  const live = useRef({ dots, onRange });
  live.current = { dots, onRange };
  const drew = useRef(false);

  const { place } = usePlot(
    () => ({
      legend: { show: false },
      cursor: {
        y: false,
        points: { show: false },
        // uPlot would swallow clicks after a drag of a part of a pixel; `drew` tells them apart.
        drag: { x: true, y: false, setScale: false, click: () => undefined },
      },
      scales: { x: { time: true, range: someMinutes }, y: { distr: 3, range: aLittleMore } },
      axes: [
        timeAxis(),
        axis({
          size: 52,
          splits: (_plot, _axis, low, high) => STEPS.filter((step) => step >= low && step <= high),
          filter: (_, splits) => splits,
          values: (_, splits) => splits.map(shortDuration),
        }),
      ],
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: {
        draw: [(plot) => drawDots(plot, live.current.dots)],
        setCursor: [(plot) => setNear(nearest(plot, live.current.dots))],
        setSelect: [
          (plot) => {
            if (plot.select.width < 6) return;
            const from = plot.posToVal(plot.select.left, "x");
            const to = plot.posToVal(plot.select.left + plot.select.width, "x");
            plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            drew.current = true;
            live.current.onRange(from, to);
          },
        ],
      },
    }),
    data,
    HEIGHT,
    "scatter",
  );
  const summary = `${counted(points.length, "run")} by start and duration; the table below has the same runs`;
  return (
    <div
      class="chart scatter"
      role="img"
      aria-label={summary}
      onPointerDown={() => (drew.current = false)}
      onClick={() => !drew.current && near !== null && go(["flow-runs", near.dot.point[0]])}
    >
      <div ref={place} class={near ? "plot pointing" : "plot"} />
      {near && <Tip dot={near.dot} left={near.left} top={near.top} />}
    </div>
  );
}

function Tip({ dot, left, top }: { dot: Dot; left: number; top: number }) {
  const [, name, flow, started, lasted, type] = dot.point;
  return (
    <div class="tip" style={{ left: `${left}px`, top: `${top}px` }}>
      <strong>{name}</strong>
      <span class="soft">{flow}</span>
      <span>
        {LOOKS[asStateType(type)].word}, {short(started)},{" "}
        {lasted === null ? "not ended yet" : duration(lasted)}
      </span>
    </div>
  );
}

function asDots(points: ScatterPoint[], at: number): Dot[] {
  return points
    .filter((point) => point[3] !== null)
    .map((point) => ({
      point,
      x: point[3],
      y: Math.max(LEAST, point[4] ?? at - point[3]),
    }))
    .sort((a, b) => a.x - b.x);
}

/** Room for the marks at both sides, and five minutes at least: one run alone has no range. */
function someMinutes(_: uPlot, first: number | null, last: number | null): [number, number] {
  const from = first ?? Date.now() / 1000;
  const to = last ?? from;
  const room = Math.max((to - from) * 0.012, (300 - (to - from)) / 2);
  return [from - room, to + room];
}

/** Room for the marks above and below, and at least a decade. */
function aLittleMore(_: uPlot, low: number | null, high: number | null): [number, number] {
  const from = Math.max(LEAST, low ?? 1) / 1.6;
  return [from, Math.max(from * 12, (high ?? 100) * 1.6)];
}

function drawDots(plot: uPlot, dots: Dot[]): void {
  const { ctx } = plot;
  const size = 3.6 * devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
  ctx.clip();
  ctx.lineWidth = 1.5 * devicePixelRatio;
  for (const dot of dots) {
    const type = asStateType(dot.point[5]);
    ctx.strokeStyle = colour(stateVariable(type));
    ctx.fillStyle = ctx.strokeStyle;
    mark(ctx, type, plot.valToPos(dot.x, "x", true), plot.valToPos(dot.y, "y", true), size);
  }
  ctx.restore();
}

/** A disc ended well, a cross failed, a diamond crashed, a dash was cancelled, a ring goes on. */
function mark(ctx: CanvasRenderingContext2D, type: StateType, x: number, y: number, r: number): void {
  ctx.beginPath();
  if (type === "FAILED") {
    ctx.moveTo(x - r, y - r);
    ctx.lineTo(x + r, y + r);
    ctx.moveTo(x + r, y - r);
    ctx.lineTo(x - r, y + r);
    ctx.stroke();
  } else if (type === "CRASHED") {
    ctx.moveTo(x, y - r * 1.3);
    ctx.lineTo(x + r * 1.3, y);
    ctx.lineTo(x, y + r * 1.3);
    ctx.lineTo(x - r * 1.3, y);
    ctx.fill();
  } else if (type === "CANCELLED" || type === "CANCELLING") {
    ctx.moveTo(x - r, y);
    ctx.lineTo(x + r, y);
    ctx.stroke();
  } else {
    ctx.arc(x, y, r, 0, 2 * Math.PI);
    if (type === "COMPLETED") {
      ctx.globalAlpha = 0.75;
      ctx.fill();
      ctx.globalAlpha = 1;
    } else ctx.stroke();
  }
}

function nearest(plot: uPlot, dots: Dot[]): { dot: Dot; left: number; top: number } | null {
  const { left = -1, top = -1 } = plot.cursor;
  if (left < 0) return null;
  let best: { dot: Dot; left: number; top: number } | null = null;
  let gap = NEAR;
  for (const dot of dots) {
    const x = plot.valToPos(dot.x, "x");
    if (Math.abs(x - left) > gap) continue;
    const y = plot.valToPos(dot.y, "y");
    const far = Math.hypot(x - left, y - top);
    if (far < gap) {
      gap = far;
      const over = plot.over;
      best = { dot, left: x + over.offsetLeft, top: y + over.offsetTop };
    }
  }
  return best;
}
