/** Texts that others wrote: names, messages, JSON. They are shown as text and nothing else. */

import { useState } from "preact/hooks";

/** Longer names are cut in the middle; the whole one is in the tooltip, up to a bound. */
const LONGEST_NAME = 160;
const LONGEST_TOOLTIP = 2000;

/** Cut in the middle: the end tells mapped runs apart. */
export function cut(text: string, longest = LONGEST_NAME): string {
  if (text.length <= longest) return text;
  const tail = Math.floor(longest / 4);
  return `${text.slice(0, longest - tail - 1)}…${text.slice(-tail)}`;
}

/** A name that others gave: its direction of writing stays within it. */
export function Name({ children }: { children: string }) {
  const isCut = children.length > LONGEST_NAME;
  return (
    <bdi class="given" title={isCut ? children.slice(0, LONGEST_TOOLTIP) : undefined}>
      {cut(children) || "(no name)"}
    </bdi>
  );
}

/** A message of several lines, of which the first are shown until all are asked for. */
export function Message({ text, lines = 6 }: { text: string; lines?: number }) {
  const [open, setOpen] = useState(false);
  const rows = text.split("\n");
  const isLong = rows.length > lines || text.length > 800;
  const shown = open || !isLong ? text : cutEnd(rows.slice(0, lines).join("\n"), 800);
  return (
    <div class="message">
      <pre dir="auto">{shown}</pre>
      {isLong && (
        <button type="button" class="link" aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? "Show less" : rows.length > lines ? `Show all ${rows.length} lines` : "Show all of it"}
        </button>
      )}
    </div>
  );
}

function cutEnd(text: string, longest: number): string {
  return text.length > longest ? `${text.slice(0, longest)}…` : text;
}

/** A value of a parameter or a detail, as JSON that people read. */
export function Value({ value }: { value: unknown }) {
  if (value === null || value === undefined) return <span class="faint">–</span>;
  if (typeof value === "string") return <Message text={value} lines={4} />;
  if (typeof value === "number" || typeof value === "boolean") return <code>{String(value)}</code>;
  return <Message text={JSON.stringify(value, null, 2)} lines={8} />;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** `3.2 GiB`; memory is counted in powers of two, as schedulers do. */
export function bytes(size: number | null | undefined): string {
  if (size === null || size === undefined) return "–";
  let value = size;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const figure = value >= 100 || unit === 0 ? Math.round(value) : Number(value.toFixed(1));
  return `${figure} ${UNITS[unit]}`;
}

/** Save a text as a file of the person's machine. */
export function save(name: string, parts: BlobPart[], type = "text/plain;charset=utf-8"): void {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
