/** For admins: users, and projects with who may read or control their runs. */

import { useState } from "preact/hooks";
import { send } from "../api/client";
import { useLoad } from "../api/load";
import type { Page, Project, User } from "../api/types";
import { Ask } from "../parts/ask";
import { Empty, Pending, Section } from "../parts/frame";
import { Time } from "../parts/time";

export function People() {
  return (
    <>
      <Users />
      <Projects />
    </>
  );
}

function Users() {
  const loaded = useLoad<Page<User>>("users");
  const [making, setMaking] = useState(false);
  const [closed, setClosed] = useState<string | null>(null);
  const items = loaded.data?.items ?? [];
  return (
    <Section
      title="Users"
      aside={
        <button type="button" onClick={() => setMaking(true)}>
          New user…
        </button>
      }
    >
      <Pending loaded={loaded} />
      {items.length > 0 && (
        <table class="list cards">
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">May</th>
              <th scope="col">Account</th>
              <th scope="col">
                <span class="hidden-text">What to do</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {items.map((user) => (
              <tr key={user.name}>
                <td class="strong">{user.name}</td>
                <td>{user.admin ? "admin" : ""}</td>
                <td class="soft">
                  {user.disabled === null ? (
                    <>
                      since <Time at={user.created} />
                    </>
                  ) : (
                    <>
                      closed <Time at={user.disabled} ago />
                    </>
                  )}
                </td>
                <td class="right">
                  {user.disabled === null && (
                    <button type="button" class="link" onClick={() => setClosed(user.name)}>
                      Close
                    </button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {making && (
        <NewName
          title="New user"
          label="The person's name on the cluster"
          choice="admin: may see and change everything"
          act={(name, admin) => send("POST", "users", { name, admin })}
          done={() => {
            setMaking(false);
            loaded.reload();
          }}
        />
      )}
      {closed !== null && (
        <Ask
          title={`Close the account of ${closed}?`}
          yes="Close it"
          danger
          act={async () => {
            await send("DELETE", `users/${encodeURIComponent(closed)}`);
            setClosed(null);
            loaded.reload();
          }}
          onClose={() => setClosed(null)}
        >
          <p>All their tokens end. Their runs stay.</p>
        </Ask>
      )}
    </Section>
  );
}

function Projects() {
  const loaded = useLoad<Page<Project>>("projects");
  const [making, setMaking] = useState(false);
  const [joining, setJoining] = useState<string | null>(null);
  const items = loaded.data?.items ?? [];
  const act = async (method: "PUT" | "DELETE", project: string, user: string, role?: string) => {
    const path = `projects/${encodeURIComponent(project)}/members/${encodeURIComponent(user)}`;
    await send(method, path, role === undefined ? undefined : { role });
    loaded.reload();
  };
  return (
    <Section
      title="Projects"
      aside={
        <button type="button" onClick={() => setMaking(true)}>
          New project…
        </button>
      }
    >
      <Pending loaded={loaded} />
      {loaded.data && items.length === 0 && (
        <Empty title="There are no projects.">
          Members of a project see each other's runs in it; all other runs are their owner's alone.
        </Empty>
      )}
      <ul class="projects">
        {items.map((project) => (
          <li key={project.name}>
            <strong>{project.name}</strong>
            <span class="members">
              {project.members.map(({ user, role }) => (
                <span key={user} class="member">
                  {user}
                  <span class="faint small">{role}</span>
                  <button
                    type="button"
                    class="link"
                    aria-label={`Take ${user} out of ${project.name}`}
                    onClick={() => void act("DELETE", project.name, user)}
                  >
                    ✕
                  </button>
                </span>
              ))}
              <button type="button" class="link" onClick={() => setJoining(project.name)}>
                Add…
              </button>
            </span>
          </li>
        ))}
      </ul>
      {making && (
        <NewName
          title="New project"
          label="Name"
          act={(name) => send("POST", "projects", { name })}
          done={() => {
            setMaking(false);
            loaded.reload();
          }}
        />
      )}
      {joining !== null && (
        <NewName
          title={`Add a member to ${joining}`}
          label="User"
          choice="may cancel, pause and delete runs of others in it"
          act={(user, control) => act("PUT", joining, user, control ? "control" : "read")}
          done={() => setJoining(null)}
        />
      )}
    </Section>
  );
}

/** Asks for a name, and yes or no. */
function NewName({
  title,
  label,
  choice,
  act,
  done,
}: {
  title: string;
  label: string;
  choice?: string;
  act: (name: string, chosen: boolean) => Promise<unknown>;
  done: () => void;
}) {
  const [name, setName] = useState("");
  const [chosen, setChosen] = useState(false);
  return (
    <Ask
      title={title}
      yes="Make it so"
      disabled={!name.trim()}
      act={async () => {
        await act(name.trim(), chosen);
        done();
      }}
      onClose={done}
    >
      <label class="field">
        <span>{label}</span>
        <input type="text" value={name} onInput={(event) => setName(event.currentTarget.value)} />
      </label>
      {choice && (
        <label class="check">
          <input type="checkbox" checked={chosen} onChange={() => setChosen(!chosen)} />
          {choice}
        </label>
      )}
    </Ask>
  );
}
