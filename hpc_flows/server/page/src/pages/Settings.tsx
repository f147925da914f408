/** Who I am here, my tokens and browsers, and for admins: users and projects. */

import { useState } from "preact/hooks";
import { send } from "../api/client";
import { useLoad } from "../api/load";
import type { Page, Token } from "../api/types";
import { now } from "../clock";
import { Ask } from "../parts/ask";
import { CopyButton } from "../parts/controls";
import { Dialog } from "../parts/dialog";
import { Empty, PageTitle, Pending, Section } from "../parts/frame";
import { Time } from "../parts/time";
import { me } from "../session";
import { People } from "./People";
import { NewToken } from "./NewToken";

export function Settings() {
  const person = me.value;
  if (person === null) return null;
  return (
    <>
      <PageTitle>Settings</PageTitle>
      <Section title="This session" aside={<AnotherBrowser />}>
        <dl class="body pairs">
          <Pair name="Person">{person.user}</Pair>
          <Pair name="May">{person.scopes.join(", ")}</Pair>
          <Pair name="Projects">{person.projects.join(", ") || <span class="faint">none</span>}</Pair>
          <Pair name="Server">
            hpc_flows {person.version} on {person.database}
          </Pair>
          <Pair name="Instance">
            <code>{person.instance}</code>
          </Pair>
        </dl>
      </Section>
      {person.run === null && <Tokens />}
      {person.admin && <People />}
    </>
  );
}

function Pair({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt class="soft">{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** A link that logs another browser in; it works once, for two minutes. */
function AnotherBrowser() {
  const [url, setUrl] = useState<string | null>(null);
  const [asking, setAsking] = useState(false);
  return (
    <>
      <button type="button" onClick={() => setAsking(true)}>
        Log in another browser…
      </button>
      {asking && url === null && (
        <Ask
          title="Log in another browser?"
          yes="Make a link"
          act={async () => setUrl((await send<{ url: string }>("POST", "login-codes")).url)}
          onClose={() => setAsking(false)}
        >
          <p>Whoever opens the link within two minutes is you, once.</p>
        </Ask>
      )}
      {url !== null && (
        <ShowOnce title="Open this in the other browser" text={url} onClose={() => setUrl(null)}>
          It works once, and for two minutes.
        </ShowOnce>
      )}
    </>
  );
}

/** A text that is shown this once, with a way to copy it. */
export function ShowOnce({
  title,
  text,
  onClose,
  children,
}: {
  title: string;
  text: string;
  onClose: () => void;
  children: preact.ComponentChildren;
}) {
  return (
    <Dialog title={title} onClose={onClose}>
      <div class="body">
        <h2>{title}</h2>
        <p>{children}</p>
        <pre class="secret" tabIndex={0}>
          {text}
        </pre>
        <div class="actions">
          <CopyButton text={text} />
          <button type="button" class="primary" onClick={onClose}>
            I have it
          </button>
        </div>
      </div>
    </Dialog>
  );
}

function Tokens() {
  const loaded = useLoad<Page<Token>>("tokens");
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState<string | null>(null);
  const [revoked, setRevoked] = useState<Token | null>(null);
  const items = (loaded.data?.items ?? []).filter((token) => token.revoked === null);
  return (
    <Section
      title="Tokens and logged-in browsers"
      aside={
        <button type="button" onClick={() => setMaking(true)}>
          New token…
        </button>
      }
    >
      <Pending loaded={loaded} />
      {loaded.data && items.length === 0 && <Empty title="There are no tokens." />}
      {items.length > 0 && <TokenTable items={items} revoke={setRevoked} />}
      {making && (
        <NewToken
          onMade={(text) => {
            setMaking(false);
            setMade(text);
            loaded.reload();
          }}
          onClose={() => setMaking(false)}
        />
      )}
      {made !== null && (
        <ShowOnce title="The new token" text={made} onClose={() => setMade(null)}>
          The server keeps only its hash: this is the one time that it is shown. Give it to{" "}
          <code>hpc-flows config set api_key=…</code> where runs shall report from.
        </ShowOnce>
      )}
      {revoked !== null && (
        <Ask
          title={`Revoke ${revoked.name || revoked.id}?`}
          yes="Revoke it"
          danger
          act={async () => {
            await send("DELETE", `tokens/${encodeURIComponent(revoked.id)}`);
            setRevoked(null);
            loaded.reload();
          }}
          onClose={() => setRevoked(null)}
        >
          <p>What uses it is refused from now on. Runs go on, and keep what they have to report.</p>
        </Ask>
      )}
    </Section>
  );
}

function TokenTable({ items, revoke }: { items: Token[]; revoke: (token: Token) => void }) {
  return (
    <table class="list cards">
      <thead>
        <tr>
          <th scope="col">Name</th>
          <th scope="col">May</th>
          <th scope="col">Person</th>
          <th scope="col" class="right">Made</th>
          <th scope="col" class="right">Used</th>
          <th scope="col" class="right">Ends</th>
          <th scope="col"><span class="hidden-text">What to do</span></th>
        </tr>
      </thead>
      <tbody>
        {items.map((token) => (
          <tr key={token.id}>
            <td class="wide">
              {token.kind === "session" ? "Browser" : <strong>{token.name || "no name"}</strong>}{" "}
              <code class="faint">{token.id}</code>
            </td>
            <td>
              {token.scopes.join(", ")}
              {token.run !== null && <span class="faint small"> of one run only</span>}
            </td>
            <td>{token.user}</td>
            <td class="right" data-label="made">
              <Time at={token.created} ago />
            </td>
            <td class="right" data-label="used">
              <Time at={token.last_used} ago />
            </td>
            <td class="right" data-label="ends">
              <Ends at={token.expires} />
            </td>
            <td class="right">
              <button type="button" class="link" onClick={() => revoke(token)}>
                Revoke
              </button>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Ends({ at }: { at: number | null }) {
  if (at === null) return <span class="faint">never</span>;
  if (at < now.peek()) return <span class="stale">ended</span>;
  return <Time at={at} ago />;
}
