/** Events that flows emitted themselves, newest first. */

import { useLoad } from "../api/load";
import type { Page, UserEvent } from "../api/types";
import { now } from "../clock";
import { ChoiceFilter, TextFilter } from "../parts/controls";
import { PageTitle, Pending } from "../parts/frame";
import { Nothing, offsetOf, Pager } from "../parts/lists";
import { Time } from "../parts/time";
import { href, route } from "../routing/route";

const LIMIT = 50;
/** Signs of a payload that show before it is opened. */
const GLIMPSE = 160;
const TIMES = [
  ["", "Any time"],
  ["3600", "Last hour"],
  ["86400", "Last 24 hours"],
  ["604800", "Last 7 days"],
] as const;

export function Events() {
  const { query } = route.value;
  const offset = offsetOf(query);
  const within = Number(query.get("within") ?? 0);
  const loaded = useLoad<Page<UserEvent>>(
    "events",
    {
      name: query.get("name"),
      resource: query.get("resource"),
      run: query.get("run"),
      since: within > 0 ? Math.floor(now.peek() / 60) * 60 - within : null,
      limit: LIMIT,
      offset,
    },
    { run: "any", pace: 1000 },
  );
  const items = loaded.data?.items ?? [];
  return (
    <>
      <PageTitle>Events</PageTitle>
      <div class="filters" role="search" aria-label="Filters">
        <TextFilter name="name" label="Name" slash />
        <TextFilter name="resource" label="Resource" />
        <TextFilter name="run" label="Run's id" />
        <ChoiceFilter name="within" label="Time" choices={TIMES} />
      </div>
      <Pending loaded={loaded} />
      {loaded.data && items.length === 0 && (
        <Nothing what="events" filters={["name", "resource", "run", "within", "offset"]}>
          A flow tells of something that happened with <code>emit_event(…)</code> from{" "}
          <code>hpc_flows.events</code>, and so does <code>hpc-flows event emit</code>.
        </Nothing>
      )}
      {items.length > 0 && (
        <ul class="panel rows">
          {items.map((event) => (
            <EventRow key={event.id} event={event} />
          ))}
        </ul>
      )}
      <Pager offset={offset} limit={LIMIT} list={loaded} />
    </>
  );
}

function EventRow({ event }: { event: UserEvent }) {
  const whole = hasContent(event.payload);
  return (
    <li class="event">
      <span class="soft nowrap when">
        <Time at={event.t} />
      </span>
      <strong>{event.name}</strong>
      <span class="soft mono">{resourceName(event.resource)}</span>
      {(event.flow_run ?? event.run) && (
        <a class="small" href={href(["flow-runs", event.flow_run ?? event.run ?? ""])}>
          run
        </a>
      )}
      {whole && (
        <details>
          <summary class="mono" title="Show the payload">
            {JSON.stringify(event.payload).slice(0, GLIMPSE)}
          </summary>
          <pre>{JSON.stringify(event.payload, null, 2)}</pre>
        </details>
      )}
    </li>
  );
}

function resourceName(resource: UserEvent["resource"]): string {
  if (resource === null || typeof resource === "string") return resource ?? "";
  const names = ["hpc_flows.resource.id", "prefect.resource.id", "id", "name"];
  const found = names.map((name) => resource[name]).find((value) => typeof value === "string");
  return typeof found === "string" ? found : JSON.stringify(resource);
}

function hasContent(payload: unknown): boolean {
  if (payload === null || payload === undefined) return false;
  return typeof payload !== "object" || Object.keys(payload).length > 0;
}
