/** The page: who looks, where they are, and which view shows that. */

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { signedOut } from "./api/client";
import { link } from "./api/live";
import { Empty, Notice } from "./parts/frame";
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

async function fetched(load: () => Promise<View>): Promise<void> {
  had.set(load, await load());
}

/** Fetch the other views once the first one is there: they are then at hand when the server is not. */
function fetchRest(): void {
  for (const { load } of Object.values(VIEWS))
    if (!had.has(load)) fetched(load).catch(() => undefined); // asked for again when it is shown
}

/** ms that the first view has for itself. */
const FIRST = 1500;

function Lazy({ load, id }: { load: () => Promise<View>; id: string }) {
  const [, draw] = useState(0);
  const [error, setError] = useState(false);
  const Known = had.get(load);
  const isLost = link.value.status === "lost";
  // Asked for again as soon as the server is heard.
  useEffect(() => {
    if (had.has(load)) return;
    fetched(load).then(
      () => {
        setError(false);
        draw((n) => n + 1);
      },
      () => setError(true),
    );
  }, [load, isLost]);
  useEffect(() => {
    const timer = setTimeout(fetchRest, FIRST);
    return () => clearTimeout(timer);
  }, []);
  if (Known) return <Known id={id} />;
  if (error && isLost)
    return (
      <Empty title="This part of the page was not fetched yet.">
        It shows as soon as the server answers.
      </Empty>
    );
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
