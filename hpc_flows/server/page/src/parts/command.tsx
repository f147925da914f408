/** A command that is copied with one press. */

import { useState } from "preact/hooks";

/** Browsers give no clipboard to pages without TLS on other hosts than this one. */
export function copied(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  // What is outside of an open dialog cannot be selected.
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done ? Promise.resolve() : Promise.reject(new Error("the browser refused"));
}

export function Command({ text, label }: { text: string; label?: string }) {
  const [said, setSaid] = useState("");
  const tell = (word: string): void => {
    setSaid(word);
    setTimeout(() => setSaid(""), 1500);
  };
  return (
    <span class="command">
      <code>{text}</code>
      <button
        type="button"
        title={label ?? "Copy the command"}
        aria-label={`Copy: ${text}`}
        onClick={() => copied(text).then(() => tell("copied"), () => tell("select and copy it"))}
      >
        {said || "copy"}
      </button>
      <span class="hidden-text" role="status">{said}</span>
    </span>
  );
}
