/** The canvas of the timeline: only what is in sight is drawn, whatever the number of lanes. */

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { duration, exact } from "../../clock";
import { isDark } from "../../theme";
import { px, useWidth } from "../measure";
import { barAt } from "./lanes";
import { BAND_HEIGHT, clear, LANE_HEIGHT, paintAxis, paintBands, paintLanes } from "./paint";
import { paletteOf } from "./palette";
import { type Idle, TimeScale } from "./scale";
import type { Lane, TimelineAnswer } from "./shape";
import { barWords } from "./words";

export interface Range {
  from: number;
  to: number;
}

const AXIS = 22;
const MOST_HEIGHT = 640;

interface Props {
  answer: TimelineAnswer;
  lanes: readonly Lane[];
  range: Range;
  idle: readonly Idle[];
  /** The task run that is looked at beside the timeline. */
  marked: string | null;
  /** Told which stretch of time is wanted; null is the whole run. */
  onZoom: (range: Range | null) => void;
  /** Told the task run of a lane, or the task of a band, that was chosen. */
  onChoose: (id: string) => void;
}

interface Pointer {
  x: number;
  y: number;
  index: number;
}

export function Chart({ answer, lanes, range, idle, marked, onZoom, onChoose }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const width = useWidth(box);
  const [top, setTop] = useState(0);
  const [pointer, setPointer] = useState<Pointer | null>(null);
  const [brush, setBrush] = useState<[number, number] | null>(null);
  const [active, setActive] = useState<number | null>(null);
  const rows = answer.mode === "rows" ? lanes.length : answer.tasks.length;
  const size = answer.mode === "rows" ? LANE_HEIGHT : BAND_HEIGHT;
  const height = Math.min(MOST_HEIGHT, AXIS + rows * size + 8);
  const left = width < 600 ? 104 : 216;
  const scale = useMemo(
    () => new TimeScale(range.from, range.to, Math.max(40, width - left - 22), idle),
    [range.from, range.to, width, left, idle],
  );
  const idOf = (index: number | null | undefined): string | null => {
    if (index === null || index === undefined) return null;
    return answer.mode === "rows" ? (lanes[index]?.id ?? null) : (answer.tasks[index]?.task ?? null);
  };
  const hovered = idOf(pointer?.index ?? active);
  const drawing = { first: Math.floor(top / size), offset: top % size, height: height - AXIS, scale, left, hovered };

  isDark(); // read, so that it is drawn anew when the theme changes
  useLayoutEffect(() => {
    if (canvas.current === null || width === 0) return;
    const palette = paletteOf(canvas.current);
    const context = clear(canvas.current, width, height);
    paintAxis(context, scale, left, height, palette);
    context.save();
    context.beginPath();
    context.rect(0, AXIS, width, height - AXIS);
    context.clip();
    context.translate(0, AXIS);
    if (answer.mode === "rows") paintLanes(context, { ...drawing, lanes, palette, marked });
    else paintBands(context, { ...drawing, bins: answer, palette });
    context.restore();
  });
  useScrollTo(box, marked, lanes, height);

  const choose = (index: number): void => {
    const id = idOf(index);
    if (id !== null) onChoose(id);
  };
  const pointerAt = (event: PointerEvent): Pointer => {
    const place = canvas.current!.getBoundingClientRect();
    const y = event.clientY - place.top;
    const index = y < AXIS ? -1 : Math.floor((y - AXIS + top) / size);
    return { x: event.clientX - place.left, y, index };
  };
  const zoom = (factor: number, shift = 0): void => {
    const middle = (range.from + range.to) / 2 + shift * (range.to - range.from);
    const half = ((range.to - range.from) / 2) * factor;
    onZoom({ from: middle - half, to: middle + half });
  };
  const onKey = (event: KeyboardEvent): void => {
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20 };
    const step = steps[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (step !== undefined) {
      const next = Math.max(0, Math.min(rows - 1, (active ?? -1) + step));
      setActive(next);
      setPointer(null);
      intoSight(box.current!, next * size, size, height - AXIS);
    } else if (event.key === "Enter" && active !== null) choose(active);
    else if (event.key === "+" || event.key === "=") zoom(0.5);
    else if (event.key === "-") zoom(2);
    else if (event.key === "ArrowLeft") zoom(1, -0.25);
    else if (event.key === "ArrowRight") zoom(1, 0.25);
    else if (event.key === "0") onZoom(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const onDown = (event: PointerEvent): void => {
    if (event.pointerType !== "mouse" || event.button !== 0) return;
    const at = pointerAt(event);
    if (at.x > left) setBrush([at.x, at.x]);
  };
  const onMove = (event: PointerEvent): void => {
    const at = pointerAt(event);
    setPointer(at.index >= 0 && at.index < rows ? at : null);
    if (brush !== null) setBrush([brush[0], Math.max(left, at.x)]);
  };
  const onUp = (event: PointerEvent): void => {
    const at = pointerAt(event);
    const was = brush;
    setBrush(null);
    if (was !== null && Math.abs(was[1] - was[0]) > 6) {
      const [from, to] = [...was].sort((a, b) => a - b) as [number, number];
      onZoom({ from: scale.time(from - left), to: scale.time(Math.min(to - left, scale.width)) });
    } else if (at.index >= 0 && at.index < rows) choose(at.index);
  };
  const told = tooltip(answer, lanes, pointer?.index ?? active, pointer, scale, left);
  return (
    <div
      ref={box}
      class="chart"
      style={{ height: px(height) }}
      tabIndex={0}
      role="listbox"
      aria-label="Timeline. Arrow keys choose a row, Enter opens it, + and - zoom, 0 shows all."
      aria-activedescendant={active === null ? undefined : "timeline-active"}
      data-mode={answer.mode}
      data-rows={rows}
      data-left={left}
      onScroll={(event) => setTop(event.currentTarget.scrollTop)}
      onKeyDown={onKey}
      onDblClick={() => onZoom(null)}
    >
      <div class="spacer" style={{ height: px(AXIS + rows * size + 8) }}>
        <canvas
          ref={canvas}
          style={{ width: px(width), height: px(height) }}
          onPointerDown={onDown}
          onPointerMove={onMove}
          onPointerUp={onUp}
          onPointerLeave={() => {
            setPointer(null);
            setBrush(null);
          }}
        />
        {brush !== null && (
          <div
            class="brush"
            style={{
              left: px(Math.min(...brush)),
              width: px(Math.abs(brush[1] - brush[0])),
              top: px(top + AXIS),
              height: px(height - AXIS),
            }}
          />
        )}
        {pointer !== null && told !== null && (
          <div class="hint" role="presentation" style={hintPlace(pointer, top, width, height)}>
            {told}
          </div>
        )}
      </div>
      {active !== null && (
        <div id="timeline-active" class="hidden-text" role="option" aria-selected="true">
          {told}
        </div>
      )}
    </div>
  );
}

function hintPlace(pointer: Pointer, top: number, width: number, height: number) {
  const isRight = pointer.x > width / 2;
  const isLow = pointer.y > height / 2;
  return {
    ...(isRight ? { right: px(width - pointer.x + 10) } : { left: px(pointer.x + 12) }),
    top: px(top + pointer.y + (isLow ? -14 : 14)),
    transform: isLow ? "translateY(-100%)" : "none",
  };
}

function tooltip(
  answer: TimelineAnswer,
  lanes: readonly Lane[],
  index: number | null | undefined,
  pointer: Pointer | null,
  scale: TimeScale,
  left: number,
): string | null {
  if (index === null || index === undefined) return null;
  if (answer.mode === "rows") {
    const lane = lanes[index];
    const bar = lane && barAt(lane, pointer ? scale.time(pointer.x - left) : lane.to);
    return lane && bar ? barWords(lane, bar) : null;
  }
  const task = answer.tasks[index];
  if (task === undefined) return null;
  if (pointer === null || pointer.x < left) return `${task.task}: press Enter to look at it alone`;
  const time = scale.time(pointer.x - left);
  const at = Math.max(0, Math.min(task.running.length - 1, Math.floor((time - answer.begin) / answer.step)));
  const counts = [
    `${task.running[at]!.toLocaleString()} running`,
    `${task.queued[at]!.toLocaleString()} queued`,
    `${task.waiting[at]!.toLocaleString()} waiting`,
    `${task.ended[at]!.toLocaleString()} ended`,
  ];
  const when = exact(answer.begin + at * answer.step);
  return `${task.task} at ${when} (${duration(answer.step)} a step): ${counts.join(", ")}`;
}

function intoSight(box: HTMLElement, at: number, size: number, room: number): void {
  if (at < box.scrollTop) box.scrollTop = at;
  else if (at + size > box.scrollTop + room) box.scrollTop = at + size - room;
}

/** Bring the lane of the task run that is open into sight, once for each. */
function useScrollTo(
  box: { current: HTMLDivElement | null },
  marked: string | null,
  lanes: readonly Lane[],
  height: number,
): void {
  const done = useRef<string | null>(null);
  useEffect(() => {
    const index = marked === null ? -1 : lanes.findIndex((lane) => lane.id === marked);
    if (marked !== done.current && index >= 0 && box.current !== null) {
      intoSight(box.current, index * LANE_HEIGHT, LANE_HEIGHT, height - AXIS);
    }
    if (index >= 0 || marked === null) done.current = marked;
  }, [marked, lanes, height]);
}
