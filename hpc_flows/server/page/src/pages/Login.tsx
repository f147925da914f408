/** Logging the browser in with a one-time code, which a command of the server's machine shows. */

import { useEffect, useState } from "preact/hooks";
import { asSentence, signedOut } from "../api/client";
import { Notice } from "../parts/frame";
import { replacePlace, route } from "../routing/route";
import { beginAgain, login } from "../session";
import icon from "../style/icon.svg";

export function Login() {
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);

  async function enter(code: string): Promise<void> {
    setBusy(true);
    setError(null);
    try {
      await login(code);
      signedOut.value = false;
      if (route.peek().path[0] === "login") replacePlace([]);
    } catch (refused) {
      setError(asSentence(refused));
    }
    setBusy(false);
  }

  useEffect(() => {
    document.title = "Log in · hpc_flows";
    // The cookie is the browser's: whoever logs in once need not do so in each tab.
    const look = () => {
      if (signedOut.peek() && !document.hidden) void beginAgain();
    };
    window.addEventListener("focus", look);
    document.addEventListener("visibilitychange", look);
    return () => {
      window.removeEventListener("focus", look);
      document.removeEventListener("visibilitychange", look);
    };
  }, []);

  useEffect(() => {
    const code = route.peek().path[0] === "login" ? route.peek().query.get("code") : null;
    if (code === null) return;
    replacePlace(["login"]); // the code is out of the address before anything else happens
    void enter(code);
  }, [route.value]);

  return (
    <main class="alone">
      <h1 tabIndex={-1}>
        <img src={icon} alt="" /> hpc_flows
      </h1>
      {error !== null && <Notice tone="error">{error}</Notice>}
      {busy ? <p role="status">Logging in…</p> : <CodeForm onCode={(code) => void enter(code)} />}
    </main>
  );
}

function CodeForm({ onCode }: { onCode: (code: string) => void }) {
  const [code, setCode] = useState("");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (code.trim()) onCode(code.trim());
      }}
    >
      <p>
        Ask for a link that logs this browser in, where your token is, and open it; it works once,
        for two minutes:
      </p>
      <pre>hpc-flows server login</pre>
      <label class="field">
        <span>Or type its code</span>
        <input
          type="text"
          name="code"
          autocomplete="off"
          spellcheck={false}
          value={code}
          onInput={(event) => setCode(event.currentTarget.value)}
        />
      </label>
      <div class="actions">
        <button type="submit" class="primary" disabled={!code.trim()}>
          Log in
        </button>
      </div>
    </form>
  );
}
