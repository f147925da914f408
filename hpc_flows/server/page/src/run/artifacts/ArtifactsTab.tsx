/** What the run has left for people to look at. */

import { useState } from "preact/hooks";
import { useLoad } from "../../api/load";
import type { Artifact, FlowRun, Page } from "../../api/types";
import { count } from "../../clock";
import { Empty, Notice, Pending } from "../../parts/frame";
import { Time } from "../../parts/time";
import { route, setQuery } from "../../routing/route";
import { taskRunHref, within } from "../places";
import { bytes, Name, save, Value } from "../text";
import { Markdown } from "./Markdown";
import { safeLink } from "./markdown";

const PAGE = 20;
const TABLE_ROWS = 200;
const TABLE_COLUMNS = 60;

export function ArtifactsTab({ run }: { run: FlowRun }) {
  const offset = Math.max(0, Number(route.value.query.get("offset") ?? 0) || 0);
  const asked = { ...within(run), key: route.value.query.get("key"), limit: PAGE, offset };
  const loaded = useLoad<Page<Artifact>>("artifacts", asked, { run: run.run, pace: 1000 });
  if (loaded.data === null) return <Pending loaded={loaded} />;
  const { items, next, total } = loaded.data;
  if (items.length === 0 && offset === 0) {
    return (
      <Empty title="This run has left no artifacts">
        A flow or task makes one with <code>create_markdown_artifact</code> and its likes.
      </Empty>
    );
  }
  return (
    <>
      <Pending loaded={loaded} />
      <div class="artifacts">{items.map((item) => <Card key={item.id} artifact={item} />)}</div>
      <p class="pager">
        {offset > 0 && (
          <button type="button" onClick={() => setQuery({ offset: Math.max(0, offset - PAGE) || null })}>Back</button>
        )}
        {total !== null && <span class="faint">{count(total)} in all</span>}
        {next !== null && <button type="button" onClick={() => setQuery({ offset: next })}>More</button>}
      </p>
    </>
  );
}

function Card({ artifact }: { artifact: Artifact }) {
  return (
    <article class="panel artifact">
      <header>
        <h2><Name>{artifact.key ?? artifact.type ?? "artifact"}</Name></h2>
        <div class="aside">
          <span class="chip">{artifact.type ?? "data"}</span>
          {artifact.task_run && <a href={taskRunHref(artifact.task_run)}>its task run</a>}
          <Time at={artifact.created} />
        </div>
      </header>
      {artifact.description && <div class="body described"><Markdown text={artifact.description} /></div>}
      <div class="body"><Body artifact={artifact} /></div>
    </article>
  );
}

function Body({ artifact }: { artifact: Artifact }) {
  const { type, data } = artifact;
  if (data === null || data === undefined) {
    if (artifact.has_data) return <Large artifact={artifact} />;
    return <p class="faint">Its data stayed in a file of the run and were not sent.</p>;
  }
  if (type === "markdown" && typeof data === "string") return <MarkdownOrLink text={data} />;
  if (type === "table") return <Table data={data} name={artifact.key ?? "table"} />;
  if (type === "progress") return <Progress value={Number(data)} />;
  if (type === "image" && typeof data === "string") return <Picture data={data} />;
  return <Value value={data} />;
}

/** What is too long for a list, loaded when somebody wants to see it. */
function Large({ artifact }: { artifact: Artifact }) {
  const [wanted, setWanted] = useState(false);
  const path = wanted ? `artifacts/${encodeURIComponent(artifact.id)}` : null;
  const loaded = useLoad<Artifact>(path, {}, { run: artifact.run, pace: 5000 });
  if (!wanted) {
    const size = artifact.size === null ? "" : ` (${bytes(artifact.size)})`;
    return <button type="button" onClick={() => setWanted(true)}>Show its data{size}</button>;
  }
  if (loaded.data === null) return <Pending loaded={loaded} />;
  // That it is whole is known; null is what the artifact says.
  return <Body artifact={{ ...loaded.data, has_data: false, data: loaded.data.data ?? "null" }} />;
}

/** Links are markdown too, as in Prefect; one that leads nowhere safe is shown as text. */
function MarkdownOrLink({ text }: { text: string }) {
  const to = safeLink(text);
  return to ? <a href={to} target="_blank" rel="noopener noreferrer nofollow">{to}</a> : <Markdown text={text} />;
}

function Progress({ value }: { value: number }) {
  if (!Number.isFinite(value)) return <p class="faint">It says no number.</p>;
  const percent = Math.max(0, Math.min(100, value));
  return (
    <div class="progress-artifact">
      <progress max={100} value={percent} aria-label="Progress" /> <span class="num">{percent.toFixed(1)} %</span>
    </div>
  );
}

/** A picture within the data is shown; one on another server is a link, which a person may follow. */
function Picture({ data }: { data: string }) {
  if (/^data:image\/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]+$/.test(data)) {
    return <img class="picture" src={data} alt="" />;
  }
  const to = safeLink(data);
  return to ? (
    <p>
      A picture on another server: <a href={to} target="_blank" rel="noopener noreferrer nofollow">{to.slice(0, 300)}</a>
    </p>
  ) : (
    <Notice tone="warn">Its address is none that a page may open: <code>{data.slice(0, 200)}</code></Notice>
  );
}

type Rows = { columns: string[]; rows: unknown[][] };

/** Prefect's three forms of tables: lists of rows as objects or lists, or an object of columns. */
export function rowsOf(data: unknown): Rows | null {
  let found = data;
  if (typeof data === "string") {
    try {
      found = JSON.parse(data) as unknown;
    } catch {
      return null;
    }
  }
  if (Array.isArray(found)) return ofList(found);
  if (typeof found === "object" && found !== null) return ofColumns(found as Record<string, unknown>);
  return null;
}

function ofList(list: unknown[]): Rows | null {
  if (list.every((row) => Array.isArray(row))) {
    const rows = list as unknown[][];
    const width = rows.reduce((most, row) => Math.max(most, row.length), 0);
    return { columns: Array.from({ length: width }, (_, at) => String(at + 1)), rows };
  }
  if (!list.every((row) => typeof row === "object" && row !== null)) return null;
  const objects = list as Record<string, unknown>[];
  const columns = [...new Set(objects.slice(0, 1000).flatMap((row) => Object.keys(row)))];
  return { columns, rows: objects.map((row) => columns.map((name) => row[name])) };
}

function ofColumns(object: Record<string, unknown>): Rows | null {
  const columns = Object.keys(object);
  const lists = Object.values(object);
  if (!lists.every((list) => Array.isArray(list))) return null;
  const length = (lists as unknown[][]).reduce((most, list) => Math.max(most, list.length), 0);
  const rows = Array.from({ length }, (_, at) => (lists as unknown[][]).map((list) => list[at]));
  return { columns, rows };
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return "";
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return text.slice(0, 500);
}

function Table({ data, name }: { data: unknown; name: string }) {
  const table = rowsOf(data);
  if (table === null) return <Value value={data} />;
  const columns = table.columns.slice(0, TABLE_COLUMNS);
  const isCut = table.rows.length > TABLE_ROWS || table.columns.length > TABLE_COLUMNS;
  return (
    <>
      <div class="scroll-x" tabIndex={0}>
        <table class="list">
          <thead><tr>{columns.map((column) => <th key={column}><Name>{column}</Name></th>)}</tr></thead>
          <tbody>
            {table.rows.slice(0, TABLE_ROWS).map((row, at) => (
              <tr key={at}>{columns.map((column, index) => <td key={column}>{cell(row[index])}</td>)}</tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="faint">
        {isCut && `The first ${TABLE_ROWS} rows of ${count(table.rows.length)}. `}
        <button type="button" class="link" onClick={() => save(`${name}.csv`, [csv(table)], "text/csv")}>
          Save as CSV
        </button>
      </p>
    </>
  );
}

/** Cells that begin like a formula get a quote before them: spreadsheets would run them. */
function csv({ columns, rows }: Rows): string {
  const field = (value: unknown): string => {
    const text = value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
    const isNumber = typeof value === "number";
    const safe = !isNumber && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [columns, ...rows].map((row) => row.map(field).join(",")).join("\r\n");
}
