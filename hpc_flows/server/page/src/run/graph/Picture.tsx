/** The drawing of a graph: boxes with bars of counts, their edges, and cells of opened tasks. */

import { useState } from "preact/hooks";
import { count } from "../../clock";
import { countsInWords, words } from "../../parts/state";
import { asStateType, isFinal, LOOKS, STATE_TYPES } from "../../states";
import { cut } from "../text";
import { type Box, CELL, type Cell, type Drawing, type Line, pathOf } from "./layout";

interface PictureProps {
  drawing: Drawing;
  isCut?: boolean;
  width: number;
  /** The task run that is looked at beside the graph. */
  chosen: string | null;
  /** Told which box was pressed: a task, an opened task, or a subflow. */
  onBox: (box: Box) => void;
  onCell: (id: string) => void;
  onCloseAll: () => void;
}

export function Picture({ drawing, isCut = false, width, chosen, onBox, onCell, onCloseAll }: PictureProps) {
  const fit = Math.min(1, Math.max(0.25, (width - 2) / drawing.width));
  const [zoom, setZoom] = useState<number | null>(null);
  const [pointed, setPointed] = useState<string | null>(null);
  const scale = zoom ?? Math.max(fit, 0.6);
  const step = (factor: number): void => setZoom(Math.min(3, Math.max(0.1, scale * factor)));
  return (
    <>
      <div class="run-tools">
        <Legend drawing={drawing} />
        <span class="grow" />
        {drawing.boxes.some((box) => box.kind === "open") && (
          <button type="button" onClick={onCloseAll}>Close all</button>
        )}
        <button type="button" aria-label="Smaller" onClick={() => step(1 / 1.25)}>−</button>
        <button type="button" aria-label="Larger" onClick={() => step(1.25)}>+</button>
        <button type="button" onClick={() => setZoom(fit)}>Fit</button>
      </div>
      <div class="graph-scroll" tabIndex={0} aria-label="Graph of tasks">
        <svg
          width={drawing.width * scale}
          height={drawing.height * scale}
          viewBox={`0 0 ${drawing.width} ${drawing.height}`}
          role="group"
          aria-label="Tasks and what they depend on"
        >
          <defs>
            <marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
              <path d="M0,0.8L7,4L0,7.2z" class="arrow-tip" />
            </marker>
          </defs>
          {drawing.lines.map((line) => <Edge key={`${line.from} ${line.to}`} line={line} near={pointed} />)}
          {drawing.boxes.map((box) => (
            <Node key={box.id} box={box} isCut={isCut} chosen={chosen} onPoint={setPointed} onBox={onBox} onCell={onCell} />
          ))}
          <Strands drawing={drawing} pointed={pointed ?? chosen} />
        </svg>
      </div>
    </>
  );
}

function Legend({ drawing }: { drawing: Drawing }) {
  const seen = new Set(drawing.boxes.flatMap((box) => Object.keys(box.states).map(asStateType)));
  return (
    <span class="legend" aria-label="Legend">
      {STATE_TYPES.filter((type) => seen.has(type)).map((type) => (
        <span key={type}><i class={`key solid s-${type.toLowerCase()}`}>{LOOKS[type].letter}</i> {LOOKS[type].word.toLowerCase()}</span>
      ))}
    </span>
  );
}

function Edge({ line, near }: { line: Line; near: string | null }) {
  const isNear = near === line.from || near === line.to;
  const middle = line.points[Math.floor(line.points.length / 2)];
  return (
    <g class={`edge${isNear ? " near" : ""}`}>
      <path d={pathOf(line.points)} marker-end="url(#tip)" />
      {line.count > 1 && middle && (
        <text x={middle.x} y={middle.y - 5} text-anchor="middle">{count(line.count)}</text>
      )}
    </g>
  );
}

interface NodeProps {
  box: Box;
  /** Whether opened tasks have more runs than are drawn. */
  isCut: boolean;
  chosen: string | null;
  onPoint: (id: string | null) => void;
  onBox: (box: Box) => void;
  onCell: (id: string) => void;
}

function Node({ box, isCut, chosen, onPoint, onBox, onCell }: NodeProps) {
  const ended = Object.entries(box.states).reduce((sum, [type, n]) => sum + (isFinal(type) ? n : 0), 0);
  const onKey = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    onBox(box);
  };
  const what = box.kind === "flow" ? "subflow" : box.kind === "open" ? "opened, press Enter to close" : "press Enter to show its runs";
  const label = cut(box.label, 26);
  const isPart = box.kind === "open" && isCut;
  const figures =
    box.total > 1 || box.kind !== "flow" ? `${count(ended)} / ${count(box.total)}${isPart ? " drawn" : ""}` : "";
  const more = box.kind === "open" ? "" : box.kind === "flow" ? "subflow" : marks(box.states);
  return (
    <g
      class={`node ${box.kind}`}
      transform={`translate(${box.x},${box.y})`}
      onPointerEnter={() => onPoint(box.id)}
      onPointerLeave={() => onPoint(null)}
    >
      <g
        role="button"
        tabIndex={0}
        aria-expanded={box.kind === "flow" ? undefined : box.kind === "open"}
        aria-label={`${[cut(box.label, 80), figures, more].filter(Boolean).join(" ")}: ${countsInWords(box.states)}; ${what}`}
        onClick={() => onBox(box)}
        onKeyDown={onKey}
        onFocus={() => onPoint(box.id)}
        onBlur={() => onPoint(null)}
      >
        <title>{`${box.label.slice(0, 300)}: ${countsInWords(box.states)}`}</title>
        <rect class="frame" width={box.width} height={box.height} rx="7" />
        <text class="label" x="12" y="20" direction="ltr">{label}</text>
        <text class="count" x={box.width - 12} y={box.kind === "open" ? 20 : 50} text-anchor="end">
          {figures}
          {box.selfLoop > 0 ? " ↻" : ""}
        </text>
        {box.kind !== "open" && <text class="more" x="12" y="50">{more}</text>}
        <Bar box={box} y={28} />
      </g>
      {box.cells.map((cell) => (
        <CellMark
          key={cell.node.id}
          cell={cell}
          isChosen={cell.node.id === chosen}
          onPoint={onPoint}
          onCell={onCell}
        />
      ))}
    </g>
  );
}

/** What is not well, in letters: colour is not all that tells it. */
function marks(states: Record<string, number>): string {
  const told = (["FAILED", "CRASHED", "CANCELLED"] as const).filter((type) => (states[type] ?? 0) > 0);
  return told.map((type) => `${count(states[type]!)} ${LOOKS[type].word.toLowerCase()}`).slice(0, 2).join(", ");
}

function Bar({ box, y }: { box: Box; y: number }) {
  const room = box.width - 24;
  const sum = Object.values(box.states).reduce((a, b) => a + b, 0) || 1;
  let x = 12;
  return (
    <>
      <rect class="trough" x={12} y={y} width={room} height="7" rx="3" />
      {STATE_TYPES.map((type) => {
        const n = box.states[type] ?? 0;
        if (n === 0) return null;
        const width = (room * n) / sum;
        x += width;
        return <rect key={type} class={`fill s-${type.toLowerCase()}`} x={x - width} y={y} width={Math.max(2, width)} height="7" rx="2" />;
      })}
    </>
  );
}

interface CellProps {
  cell: Cell;
  isChosen: boolean;
  onPoint: (id: string | null) => void;
  onCell: (id: string) => void;
}

function CellMark({ cell, isChosen, onPoint, onCell }: CellProps) {
  const type = asStateType(Object.keys(cell.node.states)[0] ?? "PENDING");
  return (
    <g
      class={`cell s-${type.toLowerCase()}${isChosen ? " chosen" : ""}`}
      transform={`translate(${cell.x},${cell.y})`}
      onPointerEnter={() => onPoint(cell.node.id)}
      onClick={() => onCell(cell.node.id)}
    >
      <title>{`${cell.node.label.slice(0, 300)}: ${words(LOOKS[type].word)}`}</title>
      <rect width={CELL - 2} height={CELL - 2} rx="2.5" class={LOOKS[type].filled ? "filled" : "hollow"} />
      {type !== "COMPLETED" && <text x={(CELL - 2) / 2} y={CELL - 5} text-anchor="middle">{LOOKS[type].letter}</text>}
    </g>
  );
}

/** From and to the run that is pointed at: all strands at once would be a carpet. */
function Strands({ drawing, pointed }: { drawing: Drawing; pointed: string | null }) {
  if (pointed === null) return null;
  const near = drawing.strands.filter(([from, to]) => from === pointed || to === pointed).slice(0, 500);
  if (near.length === 0) return null;
  const places = new Map<string, { x: number; y: number }>();
  for (const box of drawing.boxes) {
    places.set(box.id, { x: box.x + box.width / 2, y: box.y + box.height / 2 });
    for (const cell of box.cells) {
      places.set(cell.node.id, { x: box.x + cell.x + CELL / 2, y: box.y + cell.y + CELL / 2 });
    }
  }
  return (
    <g class="strands">
      {near.map(([from, to]) => {
        const [a, b] = [places.get(from), places.get(to)];
        return a && b ? <line key={`${from} ${to}`} x1={a.x} y1={a.y} x2={b.x} y2={b.y} /> : null;
      })}
    </g>
  );
}
