/** What the charts share: uPlot in the page's colours, as wide as its place, drawn anew by theme. */

import { iso } from "../moments";
import { useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { colour, isDark } from "../theme";

/** An axis in the page's type and colours. */
export function axis(more: uPlot.Axis = {}): uPlot.Axis {
  return {
    stroke: () => colour("--ink-faint"),
    font: "11px system-ui, sans-serif",
    grid: { stroke: () => colour("--line"), width: 1 },
    ticks: { stroke: () => colour("--line"), width: 1, size: 4 },
    ...more,
  };
}

/**
 * Keep a uPlot in the returned element: made anew when `options` changes, given new `data`, and as
 * wide as its place. `height` is in CSS px.
 */
export function usePlot(
  options: () => Omit<uPlot.Options, "width" | "height">,
  data: uPlot.AlignedData,
  height: number,
  key: string,
) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  useEffect(() => {
    const box = place.current;
    if (box === null) return undefined;
    const made = new uPlot({ ...options(), width: box.clientWidth, height }, data, box);
    plot.current = made;
    const watcher = new ResizeObserver(() => {
      if (box.clientWidth > 0 && box.clientWidth !== made.width)
        made.setSize({ width: box.clientWidth, height });
    });
    watcher.observe(box);
    return () => {
      watcher.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [key, height]);
  useEffect(() => {
    if (plot.current && plot.current.data !== data) plot.current.setData(data);
  }, [data]);
  useSignalEffect(() => {
    isDark();
    plot.current?.redraw(false, true);
  });
  return { place, plot };
}

/** Durations on an axis: `10 s`, `5 min`, `2 h`. */
export function shortDuration(seconds: number): string {
  if (seconds < 1) return `${seconds} s`;
  if (seconds < 60) return `${+seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${+(seconds / 60).toFixed(1)} min`;
  if (seconds < 86_400) return `${+(seconds / 3600).toFixed(1)} h`;
  return `${+(seconds / 86_400).toFixed(1)} d`;
}

const DAY = 86_400;

/** Times on an axis of one line: hours as `18:00`, and the day where a new one begins. */
export function timeTicks(splits: number[]): string[] {
  const step = splits.length > 1 ? (splits[1] ?? 0) - (splits[0] ?? 0) : 60;
  let day = "";
  return splits.map((seconds) => {
    if (iso(seconds) === null) return "";
    const when = new Date(seconds * 1000);
    const today = DAYS.format(when);
    const isNew = today !== day;
    day = today;
    if (step >= DAY) return today;
    const clock = (step < 60 ? SECONDS : CLOCK).format(when);
    return isNew && clock.startsWith("00:00") ? today : clock;
  });
}

const DAYS = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const SECONDS = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

/** The axis of times, one line high. */
export function timeAxis(): uPlot.Axis {
  return axis({ space: 64, size: 28, values: (_, splits) => timeTicks(splits) });
}
