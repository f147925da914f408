import { STATE_TYPES, stateVariable } from "../../states";
import { colour } from "../../theme";
import type { Palette } from "./paint";

/** The colours of the page as it is now, dark or light. */
export function paletteOf(element: HTMLElement): Palette {
  const states = STATE_TYPES.map((type) => [type, colour(stateVariable(type))]);
  return {
    text: colour("--ink"),
    faint: colour("--ink-faint"),
    line: colour("--line"),
    surface: colour("--surface"),
    accent: colour("--accent"),
    queued: colour("--state-pending"),
    states: Object.fromEntries(states) as Record<string, string>,
    font: `12px ${getComputedStyle(element).fontFamily}`,
  };
}
