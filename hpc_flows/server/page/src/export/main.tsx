/** The parts of an exported run that answer to a person: timeline, graph, table of task runs. */

import { render } from "preact";
import "../style/tokens.css";
import "../style/base.css";
import "../run/run.css";
import "./export.css";
import { Graph } from "./Graph";
import { Runs } from "./Runs";
import { readExported, timelineOf } from "./data";

const exported = readExported();
const answer = timelineOf(exported);

function fill(id: string, view: Parameters<typeof render>[0]): void {
  const place = document.getElementById(id);
  if (place === null) return;
  place.replaceChildren();
  render(view, place);
}

fill("exported-runs", <Runs answer={answer} now={exported.now} />);
fill("exported-graph", <Graph answer={exported.graph} />);
