import { STATE_TYPES, stateVariable } from "../../states";
import type { Palette } from "./paint";

/** Read the colours of the page's style, which differ between dark and light. */
export function paletteOf(element: HTMLElement): Palette {
  const style = getComputedStyle(element);
  const value = (name: string, otherwise: string): string =>
    style.getPropertyValue(name).trim() || otherwise;
  const states = STATE_TYPES.map((type) => [type, value(stateVariable(type), style.color)]);
  return {
    text: style.color,
    faint: value("--faint", style.color),
    line: value("--line", style.color),
    surface: value("--surface", "Canvas"),
    accent: value("--accent", style.color),
    queued: value("--state-pending", style.color),
    states: Object.fromEntries(states) as Record<string, string>,
    font: `12px ${style.fontFamily}`,
  };
}
