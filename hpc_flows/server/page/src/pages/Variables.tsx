/** Variables: small named values that flows share. */

import { useState } from "preact/hooks";
import { send } from "../api/client";
import { useLoad } from "../api/load";
import type { Page, Variable } from "../api/types";
import { Ask } from "../parts/ask";
import { Empty, PageTitle, Pending } from "../parts/frame";
import { may } from "../session";

export function Variables() {
  const loaded = useLoad<Page<Variable>>("variables");
  const [edited, setEdited] = useState<Variable | "new" | null>(null);
  const [deleted, setDeleted] = useState<Variable | null>(null);
  const done = () => {
    setEdited(null);
    setDeleted(null);
    loaded.reload();
  };
  const items = loaded.data?.items ?? [];
  return (
    <>
      <PageTitle
        aside={
          may("control") && (
            <button type="button" class="primary" onClick={() => setEdited("new")}>
              New variable
            </button>
          )
        }
      >
        Variables
      </PageTitle>
      <p class="lead soft">
        Values that flows read with <code>Variable.get</code>. They are no place for secrets: whoever
        may read here sees them.
      </p>
      <Pending loaded={loaded} />
      {loaded.data && items.length === 0 && <Empty title="There are no variables yet." />}
      {items.length > 0 && <Table items={items} edit={setEdited} remove={setDeleted} />}
      {edited !== null && <Edit variable={edited === "new" ? null : edited} done={done} />}
      {deleted !== null && (
        <Ask
          title={`Delete the variable ${deleted.name}?`}
          yes="Delete it"
          danger
          act={async () => {
            await send("DELETE", `variables/${encodeURIComponent(deleted.name)}`);
            done();
          }}
          onClose={() => setDeleted(null)}
        >
          <p>Flows that read it without a default then fail.</p>
        </Ask>
      )}
    </>
  );
}

function Table({
  items,
  edit,
  remove,
}: {
  items: Variable[];
  edit: (variable: Variable) => void;
  remove: (variable: Variable) => void;
}) {
  return (
    <div class="panel">
      <table class="list cards">
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Value</th>
            <th scope="col">Tags</th>
            <th scope="col"><span class="hidden-text">What to do</span></th>
          </tr>
        </thead>
        <tbody>
          {items.map((each) => (
            <tr key={each.name}>
              <td class="strong">{each.name}</td>
              <td class="wide">
                <code>{JSON.stringify(each.value)}</code>
              </td>
              <td>
                {each.tags.map((tag) => (
                  <span key={tag} class="tag">
                    {tag}
                  </span>
                ))}
              </td>
              <td class="right nowrap">
                {may("control") && (
                  <span class="row-actions">
                    <button type="button" class="link" onClick={() => edit(each)}>
                      Change
                    </button>
                    <button type="button" class="link" onClick={() => remove(each)}>
                      Delete
                    </button>
                  </span>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Edit({ variable, done }: { variable: Variable | null; done: () => void }) {
  const [name, setName] = useState(variable?.name ?? "");
  const [value, setValue] = useState(variable ? JSON.stringify(variable.value) : "");
  const [tags, setTags] = useState(variable?.tags.join(", ") ?? "");
  return (
    <Ask
      title={variable ? `Change ${variable.name}` : "New variable"}
      yes={variable ? "Change it" : "Make it"}
      disabled={!name.trim() || !value.trim()}
      act={async () => {
        await send("PUT", `variables/${encodeURIComponent(name.trim())}`, {
          value: asValue(value),
          tags: tags.split(",").map((tag) => tag.trim()).filter(Boolean),
        });
        done();
      }}
      onClose={done}
    >
      {!variable && (
        <label class="field">
          <span>Name</span>
          <input type="text" value={name} onInput={(event) => setName(event.currentTarget.value)} />
        </label>
      )}
      <label class="field">
        <span>Value: JSON, or else a text as it stands</span>
        <textarea rows={4} value={value} onInput={(event) => setValue(event.currentTarget.value)} />
      </label>
      <label class="field">
        <span>Tags, with commas between</span>
        <input type="text" value={tags} onInput={(event) => setTags(event.currentTarget.value)} />
      </label>
    </Ask>
  );
}

function asValue(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
