import { Graph, layout } from "@dagrejs/dagre";

/** A node of the answer of `/flow-runs/{id}/graph`. */
export interface GraphNode {
  id: string;
  kind: "tasks" | "task" | "flow";
  task: string;
  label: string;
  total: number;
  states: Record<string, number>;
  flow_run: string | null;
  /** Of a subflow, which may have no task runs. */
  state_type?: string | null;
}

export interface GraphAnswer {
  nodes: GraphNode[];
  edges: [string, string, number][];
  left_out: number;
}

/** One task run of an opened task: a cell of its grid. */
export interface Cell {
  node: GraphNode;
  x: number;
  y: number;
}

/** A box of the drawing: a task name, an opened task name with its runs, or a subflow. */
export interface Box {
  id: string;
  kind: "tasks" | "open" | "flow";
  task: string;
  label: string;
  total: number;
  states: Record<string, number>;
  flowRun: string | null;
  /** Whether runs of this task depend on other runs of it. */
  selfLoop: number;
  cells: Cell[];
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Line {
  from: string;
  to: string;
  count: number;
  points: { x: number; y: number }[];
}

export interface Drawing {
  boxes: Box[];
  lines: Line[];
  /** Between runs of opened tasks, for those that are pointed at. */
  strands: [string, string][];
  width: number;
  height: number;
}

export const CELL = 16;
export const HEAD = 46;
const BOX_WIDTH = 208;
const BOX_HEIGHT = 62;
const PADDING = 12;

/** Columns of a grid that is about twice as wide as high. */
export function columnsFor(count: number): number {
  return Math.max(12, Math.min(48, Math.ceil(Math.sqrt(count * 2))));
}

/**
 * Lay the graph out; runs of opened tasks stand in a grid within their task's box.
 *
 * Only boxes go through the layout, so its cost grows with the number of task names and not with
 * that of task runs.
 */
export function arranged(answer: GraphAnswer, direction: "LR" | "TB"): Drawing {
  const boxes = boxesOf(answer.nodes);
  const homes = new Map<string, string>();
  for (const box of boxes.values()) {
    homes.set(box.id, box.id);
    box.cells.forEach((cell) => homes.set(cell.node.id, box.id));
  }
  const { counts, strands } = joined(answer.edges, homes, boxes);
  const graph = new Graph();
  graph.setGraph({ rankdir: direction, nodesep: 18, ranksep: 56, marginx: 12, marginy: 12 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const box of boxes.values()) graph.setNode(box.id, { width: box.width, height: box.height });
  for (const key of counts.keys()) {
    const [from, to] = JSON.parse(key) as [string, string];
    graph.setEdge(from, to);
  }
  layout(graph);
  return drawn(graph, boxes, counts, strands);
}

function boxesOf(nodes: readonly GraphNode[]): Map<string, Box> {
  const boxes = new Map<string, Box>();
  for (const node of nodes) {
    if (node.kind === "task") openBox(boxes, node).cells.push({ node, x: 0, y: 0 });
    else boxes.set(node.id, closedBox(node));
  }
  for (const box of boxes.values()) {
    if (box.kind === "open") arrangeCells(box);
  }
  return boxes;
}

function closedBox(node: GraphNode): Box {
  const { id, task, label, total } = node;
  const states = shownStates(node);
  const kind = node.kind === "flow" ? "flow" : "tasks";
  const size = { x: 0, y: 0, width: BOX_WIDTH, height: BOX_HEIGHT };
  return { id, kind, task, label, total, states, flowRun: node.flow_run, selfLoop: 0, cells: [], ...size };
}

/** What a box's bar shows: a subflow without task runs shows its own state. */
export function shownStates({ states, state_type: own }: GraphNode): Record<string, number> {
  return Object.keys(states).length > 0 || !own ? states : { [own]: 1 };
}

function openBox(boxes: Map<string, Box>, node: GraphNode): Box {
  const id = `open:${node.task}`;
  const known = boxes.get(id);
  if (known !== undefined) return known;
  const box: Box = { ...closedBox({ ...node, id, label: node.task, total: 0, states: {} }), kind: "open" };
  boxes.set(id, box);
  return box;
}

function arrangeCells(box: Box): void {
  const columns = columnsFor(box.cells.length);
  box.cells.forEach((cell, index) => {
    cell.x = PADDING + (index % columns) * CELL;
    cell.y = HEAD + Math.floor(index / columns) * CELL;
    for (const [type, count] of Object.entries(cell.node.states)) {
      box.states[type] = (box.states[type] ?? 0) + count;
    }
  });
  box.total = box.cells.length;
  box.width = Math.max(BOX_WIDTH, columns * CELL + 2 * PADDING);
  box.height = HEAD + Math.ceil(box.cells.length / columns) * CELL + PADDING;
}

function joined(
  edges: readonly [string, string, number][],
  homes: ReadonlyMap<string, string>,
  boxes: Map<string, Box>,
): { counts: Map<string, number>; strands: [string, string][] } {
  const counts = new Map<string, number>();
  const strands: [string, string][] = [];
  for (const [from, to, count] of edges) {
    const ends = [homes.get(from), homes.get(to)] as const;
    if (ends[0] === undefined || ends[1] === undefined) continue;
    if (ends[0] !== from || ends[1] !== to) strands.push([from, to]);
    if (ends[0] === ends[1]) {
      boxes.get(ends[0])!.selfLoop += count;
      continue;
    }
    const key = JSON.stringify(ends);
    counts.set(key, (counts.get(key) ?? 0) + count);
  }
  return { counts, strands };
}

function drawn(
  graph: Graph,
  boxes: ReadonlyMap<string, Box>,
  counts: ReadonlyMap<string, number>,
  strands: [string, string][],
): Drawing {
  for (const box of boxes.values()) {
    const place = graph.node(box.id) as { x: number; y: number };
    // The layout gives centres.
    box.x = place.x - box.width / 2;
    box.y = place.y - box.height / 2;
  }
  const lines = [...counts].map(([key, count]) => {
    const [from, to] = JSON.parse(key) as [string, string];
    const edge = graph.edge(from, to) as { points: { x: number; y: number }[] };
    return { from, to, count, points: edge.points };
  });
  const size = graph.graph() as { width?: number; height?: number };
  return {
    boxes: [...boxes.values()],
    lines,
    strands,
    width: Math.max(1, size.width ?? 1),
    height: Math.max(1, size.height ?? 1),
  };
}

/** A smooth path through the points that the layout gives. */
export function pathOf(points: readonly { x: number; y: number }[]): string {
  const [first, ...rest] = points;
  if (first === undefined) return "";
  let path = `M${first.x},${first.y}`;
  rest.forEach((point, index) => {
    const next = rest[index + 1];
    if (next === undefined) path += `L${point.x},${point.y}`;
    else path += `Q${point.x},${point.y} ${(point.x + next.x) / 2},${(point.y + next.y) / 2}`;
  });
  return path;
}
