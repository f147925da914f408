/** The page of one flow run. */

import type { FlowRun } from "../api/types";
import { useLoad } from "../api/load";
import { PageTitle, Pending } from "../parts/frame";

export default function RunPage({ id }: { id: string }) {
  const run = useLoad<FlowRun>(`flow-runs/${encodeURIComponent(id)}`, {}, { run: "any" });
  return (
    <>
      <PageTitle>{run.data?.name ?? id}</PageTitle>
      <Pending loaded={run} />
    </>
  );
}
