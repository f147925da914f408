/** Dark and light: by the system, or as the person chose here. Canvases read colours from here. */

import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

const KEY = "hpc-flows.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(system.matches);
system.addEventListener("change", () => {
  systemDark.value = system.matches;
});

export const theme = signal<Theme>(stored());

function stored(): Theme {
  try {
    const text = localStorage.getItem(KEY);
    return text === "light" || text === "dark" ? text : "system";
  } catch {
    return "system"; // a browser that keeps nothing for this place
  }
}

/** Whether the page is dark now; read it to draw anew when that changes. */
export function isDark(): boolean {
  return theme.value === "system" ? systemDark.value : theme.value === "dark";
}

effect(() => {
  document.documentElement.dataset.theme = theme.value;
  try {
    if (theme.value === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme.value);
  } catch {
    // The choice then lasts as long as the tab.
  }
});

const known = new Map<string, string>();

/** The colour that a CSS variable has now, as `rgb(…)`, for canvases: `colour("--ink")`. */
export function colour(variable: string): string {
  const key = `${isDark()}${variable}`;
  const had = known.get(key);
  if (had !== undefined) return had;
  const probe = document.createElement("span");
  probe.hidden = true;
  probe.style.color = `var(${variable})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  known.set(key, found);
  return found;
}
