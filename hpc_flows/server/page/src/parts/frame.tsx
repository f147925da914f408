/** What stands around content: headings, notices, empty places, and what is still on its way. */

import type { ComponentChildren } from "preact";

/** The title of a page, with its actions at the right. */
export function PageTitle({
  children,
  aside,
}: {
  children: ComponentChildren;
  aside?: ComponentChildren;
}) {
  return (
    <header class="page-title">
      <h1 tabIndex={-1}>{children}</h1>
      {aside && <div class="aside">{aside}</div>}
    </header>
  );
}

/** A part of a page with a heading. */
export function Section({
  title,
  aside,
  children,
  id,
}: {
  title: ComponentChildren;
  aside?: ComponentChildren;
  children: ComponentChildren;
  id?: string;
}) {
  return (
    <section class="panel" id={id}>
      <header>
        <h2>{title}</h2>
        {aside && <div class="aside">{aside}</div>}
      </header>
      {children}
    </section>
  );
}

/** Something to know, in a box: `role=alert` when it is an error. */
export function Notice({
  tone = "info",
  children,
}: {
  tone?: "info" | "warn" | "error" | "good";
  children: ComponentChildren;
}) {
  return (
    <div class={`notice ${tone}`} role={tone === "error" ? "alert" : "status"}>
      {children}
    </div>
  );
}

/** Nothing is here, and what a person may do to have something. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <strong>{title}</strong>
      {children && <p>{children}</p>}
    </div>
  );
}

/** What stands in for data: the error, or that it is on its way; nothing once data is there. */
export function Pending({
  loaded,
}: {
  loaded: { data: unknown; error: string | null; loading: boolean; reload: () => void };
}) {
  if (loaded.error !== null)
    return (
      <Notice tone="error">
        {loaded.error}{" "}
        <button type="button" class="link" onClick={loaded.reload}>
          Try again
        </button>
      </Notice>
    );
  if (loaded.data === null) return <p class="loading" role="status">Loading…</p>;
  return null;
}
