/** What a server shows that no run was ever reported to: how a first one gets there. */

import { href } from "../routing/route";
import { Command } from "./command";
import { Section } from "./frame";

const WAYS: readonly [what: string, command: string][] = [
  ["Try it: a pretend cluster on the server's machine, and a flow on it", "hpc-flows demo"],
  ["Run a flow of your own", "hpc-flows run FILE.py:FLOW"],
  ["Bring in the runs that were made before this server", "hpc-flows server import"],
];

/** Three commands, each of which gets a run onto this server. */
export function FirstSteps() {
  return (
    <Section title="No run was reported to this server yet">
      <ol class="first-steps">
        {WAYS.map(([what, command]) => (
          <li key={command}>
            <span>{what}</span>
            <Command text={command} />
          </li>
        ))}
      </ol>
      <p class="body soft">
        Under your name on the server's machine these find the server by themselves. Elsewhere tell
        them of it first: make a token in <a href={href(["settings"])}>Settings</a>, and give it and
        the server's address to <code>hpc-flows config set api_url=…</code> and{" "}
        <code>hpc-flows config set api_key=…</code>. A run shows here within two seconds.
      </p>
    </Section>
  );
}
