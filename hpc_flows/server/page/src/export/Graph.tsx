/** The graph of an exported run; its boxes stay closed, since single edges are not in the file. */

import { useMemo, useRef } from "preact/hooks";
import { Empty } from "../parts/frame";
import { arranged, type GraphAnswer } from "../run/graph/layout";
import { Picture } from "../run/graph/Picture";
import { useWidth } from "../run/measure";
import { onlyTask } from "./chosen";

export function Graph({ answer }: { answer: GraphAnswer }) {
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const direction = width > 0 && width < 700 ? "TB" : "LR";
  const drawing = useMemo(() => arranged(answer, direction), [answer, direction]);
  return (
    <div class="graph" ref={box}>
      {drawing.boxes.length === 0 ? <Empty title="No task run" /> : (
        <Picture
          drawing={drawing}
          width={width}
          chosen={null}
          onBox={({ kind, task }) => {
            if (kind === "flow") return;
            onlyTask.value = task;
            document.getElementById("exported-runs")?.scrollIntoView({ block: "start" });
          }}
          onCell={() => undefined}
          onCloseAll={() => undefined}
        />
      )}
    </div>
  );
}
