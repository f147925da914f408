/** The page: who looks, where they are, and which view shows that. */

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { signedOut } from "./api/client";
import { Notice } from "./parts/frame";
import { Login } from "./pages/Login";
import { NotFound } from "./pages/NotFound";
import { VIEWS } from "./routing/views";
import { route } from "./routing/route";
import { begin, me, trouble } from "./session";
import { Shell } from "./shell";

export function App() {
  const asksForLogin = route.value.path[0] === "login";
  useEffect(() => {
    if (!asksForLogin && me.peek() === null) void begin();
  }, [asksForLogin]);
  if (signedOut.value || asksForLogin) return <Login />;
  if (me.value === null) return <Waiting />;
  return (
    <Shell>
      <Place />
    </Shell>
  );
}

function Waiting() {
  if (trouble.value === null) return <p class="loading" role="status">Loading…</p>;
  return (
    <main class="alone">
      <Notice tone="error">{trouble.value}</Notice>
      <button type="button" onClick={() => void begin()}>
        Try again
      </button>
    </main>
  );
}

/** The view of the current place; code that only some views need is loaded with them. */
function Place() {
  const [name = "", id] = route.value.path;
  const view = VIEWS[name];
  if (view === undefined || (view.takesId && id === undefined)) return <NotFound />;
  return <Lazy key={`${name}/${id ?? ""}`} load={view.load} id={id ?? ""} />;
}

type View = ComponentType<{ id: string }>;
const had = new Map<() => Promise<View>, View>();

function Lazy({ load, id }: { load: () => Promise<View>; id: string }) {
  const [, draw] = useState(0);
  const [error, setError] = useState(false);
  const Known = had.get(load);
  useEffect(() => {
    if (had.has(load)) return;
    load().then(
      (view) => {
        had.set(load, view);
        draw((n) => n + 1);
      },
      () => setError(true),
    );
  }, [load]);
  if (Known) return <Known id={id} />;
  if (error)
    return (
      <Notice tone="error">
        This part of the page could not be loaded; the server may have been upgraded.{" "}
        <button type="button" class="link" onClick={() => location.reload()}>
          Load the page again
        </button>
      </Notice>
    );
  return <p class="loading" role="status">Loading…</p>;
}
