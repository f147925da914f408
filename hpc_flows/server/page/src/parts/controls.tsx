/** Fields of filters, which keep their value in the address, and small controls. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { useKeys } from "../keyboard";
import { route, setQuery } from "../routing/route";
import { copied } from "./command";

/** ms after the last key until a typed filter acts. */
const PAUSE = 250;

/** A text filter: `name` in the address. With `slash`, the key / goes to it. */
export function TextFilter({
  name,
  label,
  slash = false,
}: {
  name: string;
  label: string;
  slash?: boolean;
}) {
  const told = route.value.query.get(name) ?? "";
  const [text, setText] = useState(told);
  const field = useRef<HTMLInputElement>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => {
    if (document.activeElement !== field.current) setText(told);
  }, [told]);
  useEffect(() => () => clearTimeout(timer.current), []);
  useKeys(slash ? [{ keys: "/", does: "search", act: () => field.current?.focus() }] : []);
  const act = (value: string) => {
    clearTimeout(timer.current);
    setQuery({ [name]: value.trim(), offset: null });
  };
  return (
    <input
      ref={field}
      type="search"
      name={name}
      class="filter"
      placeholder={slash ? `${label}  ( / )` : label}
      aria-label={label}
      value={text}
      onInput={(event) => {
        const value = event.currentTarget.value;
        setText(value);
        clearTimeout(timer.current);
        timer.current = setTimeout(() => act(value), PAUSE);
      }}
      onKeyDown={(event) => {
        if (event.key === "Enter") act(event.currentTarget.value);
        if (event.key === "Escape") event.currentTarget.blur();
      }}
    />
  );
}

/** A choice among few: `name` in the address; "" is the choice that is not named there. */
export function ChoiceFilter({
  name,
  label,
  choices,
}: {
  name: string;
  label: string;
  choices: readonly (readonly [value: string, words: string])[];
}) {
  return (
    <select
      name={name}
      aria-label={label}
      value={route.value.query.get(name) ?? ""}
      onChange={(event) => setQuery({ [name]: event.currentTarget.value, offset: null })}
    >
      {choices.map(([value, words]) => (
        <option key={value} value={value}>
          {words}
        </option>
      ))}
    </select>
  );
}

/** A button that stays pressed: one `value` of a name that the address may repeat. */
export function ToggleFilter({
  name,
  value,
  children,
}: {
  name: string;
  value: string;
  children: ComponentChildren;
}) {
  const chosen = route.value.query.getAll(name);
  const pressed = chosen.includes(value);
  return (
    <button
      type="button"
      aria-pressed={pressed}
      onClick={() =>
        setQuery({
          [name]: pressed ? chosen.filter((one) => one !== value) : [...chosen, value],
          offset: null,
        })
      }
    >
      {children}
    </button>
  );
}

/** Puts a text into the clipboard, and says so. */
export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  const [said, setSaid] = useState<string | null>(null);
  async function copy(): Promise<void> {
    try {
      await copied(text);
      setSaid("Copied");
    } catch {
      setSaid("Select it and copy by hand");
    }
    setTimeout(() => setSaid(null), 2500);
  }
  return (
    <button type="button" onClick={() => void copy()}>
      <span aria-live="polite">{said ?? label}</span>
    </button>
  );
}
