import type { Lane } from "./shape";

/** Pixels that a compressed idle stretch keeps. */
export const IDLE_PIXELS = 26;

/** A stretch in which nothing ran and nothing changed. */
export interface Idle {
  from: number;
  to: number;
}

interface Piece {
  from: number;
  to: number;
  x: number;
  width: number;
  idle: boolean;
}

export interface Tick {
  x: number;
  time: number;
}

/** Steps of axes that people read without reckoning, in seconds. */
const STEPS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600,
  900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000,
];

/** The smallest step that keeps marks at least `room` apart. */
export function stepFor(secondsPerPixel: number, room: number): number {
  const wanted = secondsPerPixel * room;
  return STEPS.find((step) => step >= wanted) ?? Math.ceil(wanted / 31536000) * 31536000;
}

/**
 * Find where nothing runs and nothing changes for long: a queue's night between two busy hours.
 *
 * A stretch counts as idle from a twelfth of the whole on, and never below ten seconds.
 */
export function idleStretches(lanes: readonly Lane[], begin: number, end: number): Idle[] {
  const busy: [number, number][] = [];
  const margin = (end - begin) / 200;
  for (const lane of lanes) {
    for (const bar of lane.bars) {
      for (const segment of bar.segments) {
        busy.push([segment.from - margin, segment.from + margin]);
        if (segment.stage === "running") busy.push([segment.from, segment.to + margin]);
      }
    }
  }
  // What comes after the last bar is drawn for the time that was asked for: it is not idle.
  const last = lanes.reduce((latest, lane) => Math.max(latest, lane.to), begin);
  return gapsBetween(busy, begin, Math.min(end, last), Math.max(10, (end - begin) / 12));
}

function gapsBetween(busy: [number, number][], begin: number, end: number, least: number): Idle[] {
  busy.sort((a, b) => a[0] - b[0]);
  const idle: Idle[] = [];
  let reached = begin;
  for (const [from, to] of [...busy, [end, end] as [number, number]]) {
    if (Math.min(from, end) - reached >= least) idle.push({ from: reached, to: Math.min(from, end) });
    reached = Math.max(reached, to);
    if (reached >= end) break;
  }
  return idle;
}

/** Times to pixels and back; idle stretches are drawn narrow. */
export class TimeScale {
  private readonly pieces: Piece[];

  constructor(
    readonly begin: number,
    readonly end: number,
    readonly width: number,
    idle: readonly Idle[] = [],
  ) {
    this.pieces = piecesOf(begin, end, width, idle);
  }

  /** Pixel of a time; times outside of the scale lie outside of the drawing. */
  x(time: number): number {
    const first = this.pieces[0]!;
    if (time <= first.from) return first.x + ((time - first.from) * first.width) / span(first);
    const piece = this.pieces.find((p) => time <= p.to) ?? this.pieces.at(-1)!;
    return piece.x + ((time - piece.from) * piece.width) / span(piece);
  }

  time(x: number): number {
    const piece = this.pieces.find((p) => x <= p.x + p.width) ?? this.pieces.at(-1)!;
    return piece.from + ((x - piece.x) * span(piece)) / (piece.width || 1);
  }

  /** Where stretches were left out, as pixels. */
  breaks(): { x: number; width: number; seconds: number }[] {
    const idle = this.pieces.filter((piece) => piece.idle);
    return idle.map((piece) => ({ x: piece.x, width: piece.width, seconds: span(piece) }));
  }

  /** Seconds that one pixel stands for outside of idle stretches. */
  get secondsPerPixel(): number {
    const live = this.pieces.filter((piece) => !piece.idle);
    const pixels = live.reduce((sum, piece) => sum + piece.width, 0);
    return live.reduce((sum, piece) => sum + span(piece), 0) / (pixels || 1);
  }

  /** Marks at round times of the person's own time zone. */
  ticks(room = 96): Tick[] {
    const step = stepFor(this.secondsPerPixel, room);
    const zone = step >= 3600 ? new Date(this.begin * 1000).getTimezoneOffset() * 60 : 0;
    const found: Tick[] = [];
    let last = -Infinity;
    for (const piece of this.pieces) {
      if (piece.idle) continue;
      for (let at = Math.ceil((piece.from - zone) / step); at * step + zone <= piece.to; at += 1) {
        const time = at * step + zone;
        const x = this.x(time);
        if (x - last >= room * 0.7) {
          found.push({ x, time });
          last = x;
        }
      }
    }
    return found;
  }
}

function span(piece: Piece): number {
  return piece.to - piece.from || 1e-9;
}

function piecesOf(begin: number, end: number, width: number, idle: readonly Idle[]): Piece[] {
  const inside = idle
    .map((gap) => ({ from: Math.max(gap.from, begin), to: Math.min(gap.to, end) }))
    .filter((gap) => gap.to > gap.from);
  const spared = inside.reduce((sum, gap) => sum + gap.to - gap.from, 0);
  const live = end - begin - spared;
  const room = width - IDLE_PIXELS * inside.length;
  if (inside.length === 0 || live <= 0 || room < width / 4) {
    return [{ from: begin, to: end > begin ? end : begin + 1e-3, x: 0, width, idle: false }];
  }
  const pieces: Piece[] = [];
  let at = begin;
  let x = 0;
  const push = (to: number, isIdle: boolean): void => {
    if (to <= at) return;
    const size = isIdle ? IDLE_PIXELS : ((to - at) / live) * room;
    pieces.push({ from: at, to, x, width: size, idle: isIdle });
    at = to;
    x += size;
  };
  for (const gap of inside) {
    push(gap.from, false);
    push(gap.to, true);
  }
  push(end, false);
  return pieces;
}
