/**
 * What changed, as it changes: one stream of server-sent events for the whole tab.
 *
 * The stream tells only which runs have a new version; views then ask for what they show. When
 * the stream is silent (a proxy that buffers, a server that went away) the page asks by itself
 * every few seconds and says so. A hidden tab holds no connection: browsers allow six for each
 * server, and the seventh tab would hang.
 */

import { batch, signal } from "@preact/signals";
import { apiUrl, get, signedOut } from "./client";

export type LinkStatus =
  | "connecting"
  | "live"
  | "polling" // the server answers, the stream does not
  | "lost"; // the server does not answer

export interface Link {
  status: LinkStatus;
  /** When the server was last heard, by this machine's clock in ms; 0: never. */
  heard: number;
}

/** How the page hears the server; the banner and the dot in the header show it. */
export const link = signal<Link>({ status: "connecting", heard: 0 });

/** Versions of root runs that changed; `useLoad` compares them. */
export const versions = signal<ReadonlyMap<string, number>>(new Map());

/** Rises with every change of any run, and with every turn of asking. */
export const changes = signal(0);

/** Rises when anything may have changed unseen: asking by hand, and hearing the server again. */
export const turns = signal(0);

/** After this many ms without a word the stream counts as silent; it beats every 15 s. */
const SILENCE = 40_000;
/** Between two turns of asking while there is no stream. */
const POLL = 5_000;
/** A hidden tab lets go of its connection after this time. */
const HIDDEN = 10_000;
/** Waits between attempts to open the stream. */
const RETRIES = [1_000, 2_000, 5_000, 10_000, 30_000];

let source: EventSource | null = null;
let attempt = 0;
let watch: ReturnType<typeof setTimeout> | undefined;
let poll: ReturnType<typeof setTimeout> | undefined;
let again: ReturnType<typeof setTimeout> | undefined;
let hide: ReturnType<typeof setTimeout> | undefined;
let started = false;

/** Begin to listen; called once, when the person is known. */
export function listen(): void {
  if (started) return;
  started = true;
  document.addEventListener("visibilitychange", onVisibility);
  open();
}

/** Stop listening, at logout. */
export function hangUp(): void {
  started = false;
  document.removeEventListener("visibilitychange", onVisibility);
  close();
}

function onVisibility(): void {
  clearTimeout(hide);
  if (document.hidden) hide = setTimeout(close, HIDDEN);
  else if (source === null) {
    anything();
    attempt = 0;
    open();
  }
}

function anything(): void {
  batch(() => {
    turns.value += 1;
    changes.value += 1;
  });
}

function close(): void {
  for (const timer of [watch, poll, again]) clearTimeout(timer);
  source?.close();
  source = null;
}

function open(): void {
  close();
  source = new EventSource(apiUrl("stream"));
  source.addEventListener("open", heard);
  source.addEventListener("hello", heard);
  source.addEventListener("beat", heard);
  source.addEventListener("change", onChange);
  source.addEventListener("error", fall);
  watch = setTimeout(fall, SILENCE);
}

function heard(): void {
  const back = link.peek().status !== "live" && link.peek().heard > 0;
  attempt = 0;
  clearTimeout(poll);
  clearTimeout(watch);
  watch = setTimeout(fall, SILENCE);
  link.value = { status: "live", heard: Date.now() };
  if (back) anything();
}

function onChange(event: MessageEvent<string>): void {
  heard();
  const told = JSON.parse(event.data) as { runs?: Record<string, number>; reload?: boolean };
  if (told.reload) {
    anything();
    return;
  }
  const next = new Map(versions.peek());
  for (const [run, version] of Object.entries(told.runs ?? {})) next.set(run, version);
  batch(() => {
    versions.value = next;
    changes.value += 1;
  });
}

/** The stream broke or is silent: ask by hand, and try to open it again after a while. */
function fall(): void {
  close();
  if (!started || signedOut.peek()) return;
  again = setTimeout(open, RETRIES[Math.min(attempt, RETRIES.length - 1)]);
  attempt += 1;
  if (attempt > 1) void ask();
}

async function ask(): Promise<void> {
  try {
    await get("me");
    const isBack = link.peek().status === "lost";
    link.value = { status: isBack ? "connecting" : "polling", heard: Date.now() };
    anything();
    if (isBack) {
      // The waits between attempts grew while nobody answered: the stream need not wait for its own.
      attempt = 0;
      open();
    }
  } catch {
    link.value = { status: "lost", heard: link.peek().heard };
  }
  clearTimeout(poll);
  if (source === null || source.readyState !== EventSource.OPEN)
    poll = setTimeout(() => void ask(), POLL);
}
