/** Making a token: for what, what it may do, and until when. */

import { useState } from "preact/hooks";
import { send } from "../api/client";
import type { Scope } from "../api/types";
import { Ask } from "../parts/ask";
import { me } from "../session";

const SCOPES: readonly (readonly [Scope, string])[] = [
  ["report", "report: send what runs do"],
  ["read", "read: see runs"],
  ["control", "control: cancel, pause, resume and delete runs"],
  ["admin", "admin: users, projects, tokens of others"],
];

const DAYS = [
  ["30", "30 days"],
  ["90", "90 days"],
  ["365", "a year"],
  ["", "no end"],
] as const;

export function NewToken({
  onMade,
  onClose,
}: {
  onMade: (text: string) => void;
  onClose: () => void;
}) {
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState<ReadonlySet<Scope>>(new Set<Scope>(["report", "read"]));
  const [days, setDays] = useState("90");
  const [user, setUser] = useState("");
  const [run, setRun] = useState("");
  const mine = me.value;
  const given = SCOPES.filter(([scope]) => mine?.scopes.includes(scope));
  return (
    <Ask
      title="New token"
      yes="Make it"
      disabled={!name.trim() || scopes.size === 0}
      act={async () => {
        const made = await send<{ token: string }>("POST", "tokens", {
          name: name.trim(),
          scopes: run.trim() ? ["report"] : [...scopes],
          ...(days ? { expires: Date.now() / 1000 + Number(days) * 86_400 } : {}),
          ...(user.trim() ? { user: user.trim() } : {}),
          ...(run.trim() ? { run: run.trim() } : {}),
        });
        onMade(made.token);
      }}
      onClose={onClose}
    >
      <label class="field">
        <span>Name: where or for what it is used</span>
        <input type="text" value={name} onInput={(event) => setName(event.currentTarget.value)} />
      </label>
      <fieldset class="checks">
        <legend class="soft small">It may</legend>
        {given.map(([scope, words]) => (
          <label key={scope}>
            <input
              type="checkbox"
              checked={scopes.has(scope)}
              disabled={run.trim() !== "" && scope !== "report"}
              onChange={() => setScopes(turned(scopes, scope))}
            />
            {words}
          </label>
        ))}
      </fieldset>
      <label class="field">
        <span>It ends after</span>
        <select value={days} onChange={(event) => setDays(event.currentTarget.value)}>
          {DAYS.map(([value, words]) => (
            <option key={value} value={value}>
              {words}
            </option>
          ))}
        </select>
      </label>
      <label class="field">
        <span>Only for the run with this id (it may then report, and nothing else)</span>
        <input type="text" value={run} onInput={(event) => setRun(event.currentTarget.value)} />
      </label>
      {mine?.admin && (
        <label class="field">
          <span>For another person</span>
          <input
            type="text"
            value={user}
            placeholder={mine.user}
            onInput={(event) => setUser(event.currentTarget.value)}
          />
        </label>
      )}
    </Ask>
  );
}

/** The set with the scope taken out, or put in when it was not there. */
function turned(scopes: ReadonlySet<Scope>, scope: Scope): Set<Scope> {
  const next = new Set(scopes);
  if (!next.delete(scope)) next.add(scope);
  return next;
}
