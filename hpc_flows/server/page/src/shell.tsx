/** The frame around every view: places, the link to the server, theme, keys and honest banners. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { link, type LinkStatus } from "./api/live";
import { relative, now } from "./clock";
import { helpShown, type Key, keysNow, useKeys } from "./keyboard";
import { Dialog } from "./parts/dialog";
import { Notice } from "./parts/frame";
import { RAIL } from "./routing/views";
import { go, href, route } from "./routing/route";
import { logout, me } from "./session";
import { type Theme, theme } from "./theme";
import icon from "./style/icon.svg";

const KEYS: readonly Key[] = [
  { keys: "?", does: "show or hide these keys", act: () => (helpShown.value = !helpShown.value) },
  ...RAIL.map(({ path, word, key }) => ({
    keys: `g ${key}`,
    does: `go to ${word.toLowerCase()}`,
    act: () => go(path ? [path] : []),
  })),
];

export function Shell({ children }: { children: ComponentChildren }) {
  const main = useRef<HTMLElement>(null);
  useKeys(KEYS);
  useFocusOnArrival(main);
  useTitle();
  return (
    <div class="shell">
      <a class="skip" href="#content" onClick={(event) => skip(event, main.current)}>
        To the content
      </a>
      <Rail />
      <main class="main" id="content" ref={main} tabIndex={-1}>
        <LinkBanner />
        {children}
      </main>
      {helpShown.value && <Help />}
    </div>
  );
}

function skip(event: Event, main: HTMLElement | null): void {
  event.preventDefault(); // the hash is the router's
  main?.focus();
}

/** A new place begins at its top, and screen readers hear its heading. */
function useFocusOnArrival(main: { current: HTMLElement | null }): void {
  const place = route.value.path.slice(0, 2).join("/");
  const first = useRef(true);
  useEffect(() => {
    if (first.current) {
      first.current = false;
      return;
    }
    scrollTo(0, 0);
    main.current?.querySelector("h1")?.focus({ preventScroll: true });
  }, [place]);
}

/** The name of the place, which tabs and the history show. The page of a run sets its own. */
function useTitle(): void {
  const [here = ""] = route.value.path;
  const word = here === "flow-runs" ? "Run" : RAIL.find(({ path }) => path === here)?.word;
  useEffect(() => {
    if (word !== undefined) document.title = `${word} · hpc_flows`;
  }, [word]);
}

function Rail() {
  const [open, setOpen] = useState(false);
  const [here = ""] = route.value.path;
  const at = here === "flow-runs" ? "runs" : here;
  useEffect(() => setOpen(false), [here]);
  return (
    <header class={open ? "rail open" : "rail"}>
      <div class="rail-head">
        <a class="brand" href={href([])}>
          <img src={icon} alt="" />
          hpc_flows
        </a>
        <button
          type="button"
          class="menu-button"
          aria-expanded={open}
          aria-controls="places"
          onClick={() => setOpen(!open)}
        >
          Menu
        </button>
      </div>
      <nav class="places" id="places" aria-label="Places">
        {RAIL.map(({ path, word, key, strokes }) => (
          <a
            key={path}
            href={href(path ? [path] : [])}
            aria-current={path === at ? "page" : undefined}
            title={`g ${key}`}
          >
            <svg viewBox="0 0 16 16" aria-hidden="true">
              <path d={strokes} />
            </svg>
            {word}
          </a>
        ))}
      </nav>
      <RailFoot />
    </header>
  );
}

function RailFoot() {
  return (
    <div class="rail-foot">
      <div class="row">
        <LinkState />
        <button
          type="button"
          class="quiet"
          title="Keys (?)"
          aria-label="Show the keys"
          onClick={() => (helpShown.value = true)}
        >
          <kbd>?</kbd>
        </button>
      </div>
      <div class="row">
        <Themes />
      </div>
      <div class="row">
        <span title={`server ${me.value?.version ?? ""} on ${me.value?.database ?? ""}`}>
          {me.value?.user}
        </span>
        <button type="button" class="link" onClick={() => void logout()}>
          Log out
        </button>
      </div>
    </div>
  );
}

const LINK_WORDS: Readonly<Record<LinkStatus, [string, string]>> = {
  connecting: ["Connecting", "The stream of changes is being opened."],
  live: ["Live", "Changes show as they happen."],
  polling: ["Every 5 s", "No stream of changes comes through: the page asks every five seconds."],
  lost: ["No answer", "The server does not answer; what you see is old."],
};

function LinkState() {
  const [word, meaning] = LINK_WORDS[link.value.status];
  return (
    <span class={`link-state ${link.value.status}`} title={meaning} role="status">
      <i aria-hidden="true" />
      {word}
    </span>
  );
}

/** Says when what is shown may be old. A short gap is no news. */
function LinkBanner() {
  const { status, heard } = link.value;
  if (status === "lost")
    return (
      <Notice tone="error">
        The server does not answer
        {heard > 0 && <>; it was last heard {relative(heard / 1000, now.value)}</>}. What you see is
        as it was then. The page goes on asking; your runs do not need the server and go on.
      </Notice>
    );
  if (status === "polling")
    return (
      <Notice tone="warn">
        The live stream does not come through (a proxy may hold it back). The page asks every five
        seconds instead.
      </Notice>
    );
  return null;
}

const SUN = "M8 5.2a2.8 2.8 0 100 5.6 2.8 2.8 0 000-5.6zM8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M3.4 12.6l.9-.9M11.7 4.3l.9-.9";
const MOON = "M13 9.6A5.6 5.6 0 016.4 3 5.6 5.6 0 1013 9.6z";
const SCREEN = "M2 3.5h12v7.5H2zM6 13.5h4";

const THEMES: readonly [Theme, string, string][] = [
  ["system", "Like the system", SCREEN],
  ["light", "Light", SUN],
  ["dark", "Dark", MOON],
];

function Themes() {
  return (
    <span class="themes" role="group" aria-label="Colours">
      {THEMES.map(([name, words, strokes]) => (
        <button
          key={name}
          type="button"
          title={words}
          aria-label={words}
          aria-pressed={theme.value === name}
          onClick={() => (theme.value = name)}
        >
          <svg viewBox="0 0 16 16" aria-hidden="true">
            <path d={strokes} />
          </svg>
        </button>
      ))}
    </span>
  );
}

function Help() {
  const close = () => (helpShown.value = false);
  return (
    <Dialog title="Keys" onClose={close}>
      <div class="body">
        <h2>Keys</h2>
        <dl class="keys">
          {keysNow().map(({ keys, does }) => (
            <div key={keys}>
              <dt>
                {keys.split(" ").map((key) => (
                  <kbd key={key}>{key}</kbd>
                ))}
              </dt>
              <dd>{does}</dd>
            </div>
          ))}
        </dl>
        <div class="actions">
          <button type="button" onClick={close}>
            Close
          </button>
        </div>
      </div>
    </Dialog>
  );
}

