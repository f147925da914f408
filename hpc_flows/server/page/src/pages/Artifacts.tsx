/** What runs left to look at, across runs; each leads to its run, which shows it whole. */

import { useLoad } from "../api/load";
import type { Artifact, Page } from "../api/types";
import { ChoiceFilter, TextFilter } from "../parts/controls";
import { PageTitle, Pending } from "../parts/frame";
import { Nothing, offsetOf, Pager, useWalk } from "../parts/lists";
import { Time } from "../parts/time";
import { go, href, route } from "../routing/route";

const LIMIT = 50;
const TYPES = [
  ["", "All types"],
  ["markdown", "Markdown"],
  ["table", "Table"],
  ["link", "Link"],
  ["progress", "Progress"],
  ["image", "Image"],
] as const;

export function Artifacts() {
  const { query } = route.value;
  const offset = offsetOf(query);
  const loaded = useLoad<Page<Artifact>>(
    "artifacts",
    { key: query.get("key"), type: query.get("type"), limit: LIMIT, offset },
    { run: "any", pace: 2000 },
  );
  const items = loaded.data?.items ?? [];
  const walk = useWalk(items.length, (index) => {
    const item = items[index];
    if (item) go(...place(item));
  });
  return (
    <>
      <PageTitle>Artifacts</PageTitle>
      <div class="filters" role="search" aria-label="Filters">
        <TextFilter name="key" label="Key" slash />
        <ChoiceFilter name="type" label="Type" choices={TYPES} />
      </div>
      <Pending loaded={loaded} />
      {loaded.data && items.length === 0 && (
        <Nothing what="artifacts" filters={["key", "type", "offset"]}>
          A flow or task leaves tables, texts, links and pictures to look at, with{" "}
          <code>create_table_artifact(…)</code> and its likes from{" "}
          <code>hpc_flows.artifacts</code>.
        </Nothing>
      )}
      {items.length > 0 && (
        <div class="panel">
          <table class="list cards">
            <thead>
              <tr>
                <th scope="col">Key</th>
                <th scope="col">Type</th>
                <th scope="col">Description</th>
                <th scope="col" class="right">Created</th>
              </tr>
            </thead>
            <tbody>
              {items.map((item, index) => (
                <tr key={item.id} class={walk.mark(index)}>
                  <td class="wide">
                    <a class="strong" href={href(...place(item))}>
                      {item.key ?? item.id}
                    </a>
                  </td>
                  <td>
                    <span class="tag">{item.type}</span>
                  </td>
                  <td class="soft">{item.description}</td>
                  <td class="right">
                    <Time at={item.created} ago />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <Pager offset={offset} limit={LIMIT} list={loaded} />
    </>
  );
}

/** Where an artifact is shown whole: in its run. */
function place(item: Artifact): [string[], Record<string, string>] {
  return [["flow-runs", item.flow_run ?? item.run], { tab: "artifacts", artifact: item.id }];
}
