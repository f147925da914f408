/** A question before something that cannot be taken back, with the server's refusal in it. */

import { useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { asSentence } from "../api/client";
import { Dialog } from "./dialog";
import { Notice } from "./frame";

/** Asks; `act` runs at yes, and what it throws is shown while the question stays. */
export function Ask({
  title,
  yes,
  danger = false,
  disabled = false,
  act,
  onClose,
  children,
}: {
  title: string;
  /** The word on the button, which says what happens: never just "OK". */
  yes: string;
  danger?: boolean;
  disabled?: boolean;
  act: () => Promise<void>;
  onClose: () => void;
  children?: ComponentChildren;
}) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  async function submit(event: Event): Promise<void> {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await act();
    } catch (refused) {
      setError(asSentence(refused));
    }
    setBusy(false);
  }
  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={(event) => void submit(event)}>
        <h2>{title}</h2>
        {children}
        {error !== null && <Notice tone="error">{error}</Notice>}
        <div class="actions">
          <button type="button" onClick={onClose}>
            Go back
          </button>
          <button type="submit" class={danger ? "danger" : "primary"} disabled={busy || disabled}>
            {busy ? "One moment…" : yes}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
