/** An address that leads nowhere. */

import { Empty } from "../parts/frame";
import { href } from "../routing/route";

export function NotFound() {
  return (
    <Empty title="There is no such page here.">
      The address may be of another version. Go to the <a href={href([])}>dashboard</a> or to all{" "}
      <a href={href(["runs"])}>runs</a>.
    </Empty>
  );
}
