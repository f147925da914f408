import type { TimeScale } from "./scale";
import { tickLabel } from "./ticks";
import type { Bar, Lane, Segment, TaskBins, TimelineBins } from "./shape";

/** Colours and type of a drawing; read from the page's style, so that it follows dark and light. */
export interface Palette {
  text: string;
  faint: string;
  line: string;
  surface: string;
  accent: string;
  queued: string;
  states: Record<string, string>;
  font: string;
}

/** Letters beside bars, so that no state is told by colour alone. */
const MARKS: Record<string, string> = { FAILED: "✗", CRASHED: "!", CANCELLED: "–", PAUSED: "‖" };

export const LANE_HEIGHT = 20;
const BAR_HEIGHT = 12;
const BAND_TOP = 4;

export interface LaneDrawing {
  lanes: readonly Lane[];
  /** Index of the first lane that is drawn and pixels by which it is scrolled out. */
  first: number;
  offset: number;
  height: number;
  scale: TimeScale;
  left: number;
  palette: Palette;
  marked: string | null;
  hovered: string | null;
}

export function clear(canvas: HTMLCanvasElement, width: number, height: number) {
  const ratio = window.devicePixelRatio || 1;
  const size = [Math.round(width * ratio), Math.round(height * ratio)] as const;
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const context = canvas.getContext("2d")!;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** Draw the time axis: marks, their lines down the drawing, and where time was left out. */
export function paintAxis(
  context: CanvasRenderingContext2D,
  scale: TimeScale,
  left: number,
  height: number,
  palette: Palette,
): void {
  context.font = palette.font;
  context.textBaseline = "top";
  const ticks = scale.ticks();
  const day = new Date((ticks[0]?.time ?? scale.begin) * 1000).toDateString();
  let reached = 0;
  ticks.forEach((tick, index) => {
    const x = Math.round(left + tick.x) + 0.5;
    context.strokeStyle = palette.line;
    context.beginPath();
    context.moveTo(x, 16);
    context.lineTo(x, height);
    context.stroke();
    context.fillStyle = palette.faint;
    const label = tickLabel(tick.time, scale.secondsPerPixel * 96, index === 0 ? null : day);
    const width = context.measureText(label).width;
    const at = Math.min(x + 3, left + scale.width - width);
    if (at < reached) return;
    context.fillText(label, at, 2);
    reached = at + width + 6;
  });
  for (const gap of scale.breaks()) paintBreak(context, left + gap.x, gap.width, height, palette);
}

function paintBreak(
  context: CanvasRenderingContext2D,
  x: number,
  width: number,
  height: number,
  palette: Palette,
): void {
  context.save();
  context.globalAlpha = 0.6;
  context.strokeStyle = palette.faint;
  context.setLineDash([2, 3]);
  for (const at of [x, x + width]) {
    context.beginPath();
    context.moveTo(Math.round(at) + 0.5, 16);
    context.lineTo(Math.round(at) + 0.5, height);
    context.stroke();
  }
  context.restore();
  context.fillStyle = palette.faint;
  context.textAlign = "center";
  context.fillText("⋯", x + width / 2, 14);
  context.textAlign = "left";
}

export function paintLanes(context: CanvasRenderingContext2D, drawing: LaneDrawing): void {
  const { lanes, first, offset, height, palette } = drawing;
  context.font = palette.font;
  context.textBaseline = "middle";
  for (let row = 0; row * LANE_HEIGHT - offset < height; row += 1) {
    const lane = lanes[first + row];
    if (lane === undefined) return;
    paintLane(context, lane, row * LANE_HEIGHT - offset, drawing);
  }
}

function paintLane(
  context: CanvasRenderingContext2D,
  lane: Lane,
  top: number,
  drawing: LaneDrawing,
): void {
  const { scale, left, palette, marked, hovered } = drawing;
  if (lane.id === marked || lane.id === hovered) {
    context.save();
    context.globalAlpha = lane.id === marked ? 0.18 : 0.08;
    context.fillStyle = palette.accent;
    context.fillRect(0, top, left + scale.width, LANE_HEIGHT);
    context.restore();
  }
  context.fillStyle = lane.id === marked ? palette.text : palette.faint;
  context.fillText(fitted(context, lane.name, left - 14), 6, top + LANE_HEIGHT / 2);
  context.save();
  context.beginPath();
  context.rect(left, top, scale.width, LANE_HEIGHT);
  context.clip();
  lane.bars.forEach((bar) => paintBar(context, bar, top, drawing));
  context.restore();
  lane.bars.forEach((bar) => paintMark(context, bar, top, drawing));
}

/** A text that fits: the beginning and the end are what tells mapped runs apart. */
export function fitted(context: CanvasRenderingContext2D, text: string, width: number): string {
  const shown = text.length > 200 ? `${text.slice(0, 100)}…${text.slice(-60)}` : text;
  if (context.measureText(shown).width <= width) return shown;
  let keep = Math.max(2, Math.floor((shown.length * width) / context.measureText(shown).width) - 1);
  const cut = (): string => {
    const tail = Math.floor(keep / 2.5);
    return `${shown.slice(0, keep - tail)}…${tail ? shown.slice(-tail) : ""}`;
  };
  while (keep > 2 && context.measureText(cut()).width > width) keep -= 1;
  return cut();
}

function paintBar(
  context: CanvasRenderingContext2D,
  bar: Bar,
  top: number,
  { scale, left, palette }: LaneDrawing,
): void {
  const y = top + BAND_TOP;
  if (bar.limit !== null) paintLimit(context, bar, y, scale, left, palette);
  for (const segment of bar.segments) paintSegment(context, bar, segment, y, scale, left, palette);
}

/** The sign of an end that was not well, in the margin too: the last bar ends where the scale does. */
function paintMark(
  context: CanvasRenderingContext2D,
  bar: Bar,
  top: number,
  { scale, left, palette }: LaneDrawing,
): void {
  const last = bar.segments.at(-1);
  const mark = MARKS[bar.row.state_type];
  if (last === undefined || mark === undefined) return;
  const x = scale.x(last.to);
  if (x < 0 || x > scale.width + 1) return;
  context.fillStyle = palette.states[bar.row.state_type] ?? palette.text;
  context.fillText(mark, left + x + 3, top + LANE_HEIGHT / 2);
}

function paintLimit(
  context: CanvasRenderingContext2D,
  bar: Bar,
  y: number,
  scale: TimeScale,
  left: number,
  palette: Palette,
): void {
  const x = left + scale.x(bar.row.started!);
  const width = left + scale.x(bar.limit!) - x;
  context.save();
  context.setLineDash([3, 3]);
  context.strokeStyle = palette.faint;
  context.globalAlpha = 0.7;
  context.strokeRect(Math.round(x) + 0.5, y + 0.5, Math.max(1, width), BAR_HEIGHT - 1);
  context.restore();
}

function paintSegment(
  context: CanvasRenderingContext2D,
  bar: Bar,
  segment: Segment,
  y: number,
  scale: TimeScale,
  left: number,
  palette: Palette,
): void {
  const x = left + scale.x(segment.from);
  const width = Math.max(segment.stage === "running" ? 2 : 0.5, left + scale.x(segment.to) - x);
  if (segment.stage === "waiting") {
    context.fillStyle = palette.line;
    context.fillRect(x, y + BAR_HEIGHT / 2 - 1, width, 2);
  } else if (segment.stage === "queued") {
    paintQueued(context, x, y, width, palette);
  } else {
    context.fillStyle = palette.states[bar.row.state_type] ?? palette.text;
    context.fillRect(x, y, width, BAR_HEIGHT);
  }
}

/** Queued is hatched: it differs from running in shape, not only in colour. */
function paintQueued(
  context: CanvasRenderingContext2D,
  x: number,
  y: number,
  width: number,
  palette: Palette,
): void {
  context.save();
  context.fillStyle = palette.queued;
  context.globalAlpha = 0.28;
  context.fillRect(x, y + 2, width, BAR_HEIGHT - 4);
  context.globalAlpha = 0.8;
  context.strokeStyle = palette.queued;
  context.beginPath();
  context.rect(x, y + 2, width, BAR_HEIGHT - 4);
  context.clip();
  const begin = Math.max(x, 0);
  const end = Math.min(x + width, context.canvas.width);
  for (let at = begin - (begin % 5) - BAR_HEIGHT; at < end; at += 5) {
    context.moveTo(at, y + BAR_HEIGHT);
    context.lineTo(at + BAR_HEIGHT, y);
  }
  context.stroke();
  context.restore();
}

export const BAND_HEIGHT = 64;

export interface BinDrawing {
  bins: TimelineBins;
  first: number;
  offset: number;
  height: number;
  scale: TimeScale;
  left: number;
  palette: Palette;
  hovered: string | null;
}

/** Most runs that were under way at once: the height of a band. */
export function peakOf(task: TaskBins): number {
  let peak = 1;
  for (let at = 0; at < task.running.length; at += 1) {
    peak = Math.max(peak, task.queued[at]! + task.running[at]!);
  }
  return peak;
}

/** Draw one band for each task name: how many ran, and above them how many were queued. */
export function paintBands(context: CanvasRenderingContext2D, drawing: BinDrawing): void {
  const { bins, first, offset, height, palette, left, scale, hovered } = drawing;
  context.font = palette.font;
  for (let row = 0; row * BAND_HEIGHT - offset < height; row += 1) {
    const task = bins.tasks[first + row];
    if (task === undefined) return;
    const top = row * BAND_HEIGHT - offset;
    if (task.task === hovered) {
      context.save();
      context.globalAlpha = 0.08;
      context.fillStyle = palette.accent;
      context.fillRect(0, top, left + scale.width, BAND_HEIGHT);
      context.restore();
    }
    paintBandLabel(context, task, top, left, palette);
    paintBand(context, task, top, drawing);
  }
}

function paintBandLabel(
  context: CanvasRenderingContext2D,
  task: TaskBins,
  top: number,
  left: number,
  palette: Palette,
): void {
  context.textBaseline = "middle";
  context.fillStyle = palette.text;
  context.fillText(fitted(context, task.task, left - 14), 6, top + BAND_HEIGHT / 2 - 8);
  context.fillStyle = palette.faint;
  const peak = peakOf(task).toLocaleString();
  const most = fitted(context, `≤ ${peak} at once`, left - 14);
  context.fillText(most, 6, top + BAND_HEIGHT / 2 + 8);
  context.fillStyle = palette.line;
  context.fillRect(0, top + BAND_HEIGHT - 1, left + 100000, 1);
}

function paintBand(
  context: CanvasRenderingContext2D,
  task: TaskBins,
  top: number,
  { bins, scale, left, palette }: BinDrawing,
): void {
  const peak = peakOf(task);
  const room = BAND_HEIGHT - 10;
  const floor = top + BAND_HEIGHT - 2;
  context.save();
  context.beginPath();
  context.rect(left, top, scale.width, BAND_HEIGHT);
  context.clip();
  const running = palette.states["RUNNING"] ?? palette.accent;
  // Column by column: narrow drawings have more bins than pixels, wide ones more pixels than bins.
  for (let x = 0; x < scale.width; x += 1) {
    const at = Math.floor((scale.time(x + 0.5) - bins.begin) / bins.step);
    const ran = ((task.running[at] ?? 0) / peak) * room;
    const waited = ((task.queued[at] ?? 0) / peak) * room;
    context.fillStyle = running;
    context.fillRect(left + x, floor - ran, 1, ran);
    context.globalAlpha = 0.35;
    context.fillStyle = palette.queued;
    context.fillRect(left + x, floor - ran - waited, 1, waited);
    context.globalAlpha = 1;
  }
  context.restore();
}
