/** The graph: one box for each task name, which opens to a grid of its runs. */

import { useMemo, useRef } from "preact/hooks";
import { useLoad } from "../../api/load";
import type { FlowRun } from "../../api/types";
import { count } from "../../clock";
import { Notice, Pending } from "../../parts/frame";
import { go, route, setQuery } from "../../routing/route";
import { NoTaskRuns } from "../NoTaskRuns";
import { useWidth } from "../measure";
import { arranged, type Box, type Drawing, type GraphAnswer, shownStates } from "./layout";
import { Picture } from "./Picture";

/** Opened tasks at one time: each may have 500 runs. */
const MOST_OPEN = 3;

export function GraphTab({ run }: { run: FlowRun }) {
  const query = route.value.query;
  const open = query.getAll("open").slice(0, MOST_OPEN);
  const loaded = useLoad<GraphAnswer>(`flow-runs/${run.id}/graph`, { open }, { run: run.run, pace: 1000 });
  const outer = useRef<HTMLDivElement>(null);
  const width = useWidth(outer);
  const direction = width > 0 && width < 700 ? "TB" : "LR";
  // The layout depends on the boxes and edges only; counts change far more often.
  const shape = loaded.data && JSON.stringify([loaded.data.nodes.map((node) => [node.id, node.kind]), loaded.data.edges]);
  const layout = useMemo(
    () => (loaded.data && width > 0 ? arranged(loaded.data, direction) : null),
    [shape, direction, width > 0],
  );
  const drawing = layout && loaded.data ? refreshed(layout, loaded.data) : null;
  return (
    <div class="graph" ref={outer}>
      {loaded.data === null && <Pending loaded={loaded} />}
      {loaded.data?.nodes.length === 0 && <NoTaskRuns run={run} />}
      {(loaded.data?.left_out ?? 0) > 0 && (
        <Notice tone="info">{count(loaded.data!.left_out)} task runs are not drawn; the table has them all.</Notice>
      )}
      {drawing && drawing.boxes.length > 0 && (
        <Picture
          drawing={drawing}
          isCut={loaded.data!.left_out > 0}
          width={width}
          chosen={query.get("task-run")}
          onBox={(box) => press(box, open)}
          onCell={(id) => setQuery({ "task-run": id }, { push: true })}
          onCloseAll={() => setQuery({ open: null })}
        />
      )}
    </div>
  );
}

function press(box: Box, open: string[]): void {
  if (box.kind === "flow" && box.flowRun) go(["flow-runs", box.flowRun]);
  else if (box.kind === "open") setQuery({ open: open.filter((task) => task !== box.task) });
  else setQuery({ open: [...open, box.task].slice(-MOST_OPEN) });
}

/** New counts in the old places. */
function refreshed(layout: Drawing, answer: GraphAnswer): Drawing {
  const nodes = new Map(answer.nodes.map((node) => [node.id, node]));
  const boxes = layout.boxes.map((box) => {
    const node = nodes.get(box.id);
    if (node) return { ...box, total: node.total, states: shownStates(node) };
    const cells = box.cells.map((cell) => ({ ...cell, node: nodes.get(cell.node.id) ?? cell.node }));
    const states: Record<string, number> = {};
    for (const cell of cells) {
      for (const [type, n] of Object.entries(cell.node.states)) states[type] = (states[type] ?? 0) + n;
    }
    return { ...box, cells, states };
  });
  return { ...layout, boxes };
}
