/** An address that leads nowhere. */

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { Empty, PageTitle } from "../parts/frame";
import { href } from "../routing/route";

export function NotFound() {
  return (
    <Missing title="There is no such page here">The address may be of another version.</Missing>
  );
}

/** A run that is not there, or that somebody else may see. */
export function NoSuchRun({ id }: { id: string }) {
  return (
    <Missing title="There is no such run here">
      Either no run with the id <code>{id.slice(0, 80)}</code> was reported to this server, or it was
      deleted, or it is of somebody who does not share it with you. Runs from before the server come
      here with <code>hpc-flows server import</code>.
    </Missing>
  );
}

function Missing({ title, children }: { title: string; children: ComponentChildren }) {
  useEffect(() => {
    document.title = "Not found · hpc_flows";
  }, []);
  return (
    <>
      <PageTitle>{title}</PageTitle>
      <Empty title="Nothing is at this address.">
        {children} Go to the <a href={href([])}>dashboard</a> or to all{" "}
        <a href={href(["runs"])}>runs</a>.
      </Empty>
    </>
  );
}
