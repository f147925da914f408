/**
 * Terminal colours in log messages.
 *
 * A message is cut into pieces of plain text with a style each. Nothing becomes markup: the pieces
 * are shown as text nodes, and every escape sequence that is no colour or weight is left out.
 */

export interface Piece {
  text: string;
  /** Index of one of the sixteen colours, or null. */
  colour: number | null;
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
}

type Style = Omit<Piece, "text">;

const PLAIN: Style = { colour: null, bold: false, dim: false, italic: false, underline: false };

// CSI sequences, OSC sequences up to their end, and lone escapes of two bytes.
// eslint-disable-next-line no-control-regex
const ESCAPE = /\u001b(?:\[([0-9;:?<=>]*)[ -/]*([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\|$)|[ -/]*[0-~])/g;
// eslint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;

export function hasEscapes(text: string): boolean {
  return text.includes("\u001b");
}

/** Cut a text into styled pieces. */
export function pieces(text: string): Piece[] {
  if (!hasEscapes(text)) return [{ text: visible(text), ...PLAIN }];
  const found: Piece[] = [];
  let style = PLAIN;
  let at = 0;
  const push = (to: number): void => {
    const part = visible(text.slice(at, to));
    if (part !== "") found.push({ text: part, ...style });
  };
  for (const match of text.matchAll(ESCAPE)) {
    push(match.index);
    at = match.index + match[0].length;
    if (match[2] === "m") style = styled(style, match[1] ?? "");
  }
  push(text.length);
  return found;
}

/** The text without any escape sequence, for search, copying and downloads. */
export function stripped(text: string): string {
  return visible(text.replace(ESCAPE, ""));
}

/** Control characters as signs, and what a carriage return overwrote left out, as terminals do. */
function visible(text: string): string {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const shown = lines.map((line) => line.slice(line.lastIndexOf("\r", line.length - 2) + 1));
  return shown.join("\n").replaceAll("\r", "").replace(CONTROLS, "·");
}

function styled(style: Style, parameters: string): Style {
  const codes = parameters.split(/[;:]/).map((code) => Number(code || "0"));
  let next = style;
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at]!;
    if (code === 38 || code === 48) {
      const is256 = codes[at + 1] === 5;
      if (code === 38) next = { ...next, colour: is256 ? nearest(codes[at + 2] ?? 0) : null };
      at += is256 ? 2 : 4;
    } else next = changed(next, code);
  }
  return next;
}

function changed(style: Style, code: number): Style {
  if (code === 0) return PLAIN;
  if (code === 1) return { ...style, bold: true };
  if (code === 2) return { ...style, dim: true };
  if (code === 3) return { ...style, italic: true };
  if (code === 4) return { ...style, underline: true };
  if (code === 22) return { ...style, bold: false, dim: false };
  if (code === 23) return { ...style, italic: false };
  if (code === 24) return { ...style, underline: false };
  if (code === 39) return { ...style, colour: null };
  if (code >= 30 && code <= 37) return { ...style, colour: code - 30 };
  if (code >= 90 && code <= 97) return { ...style, colour: code - 82 };
  return style;
}

/** Of the 256 colours the sixteen named ones are kept; the others become the nearest of them. */
function nearest(code: number): number | null {
  if (code < 16) return code;
  if (code >= 232) return code < 244 ? 8 : 7;
  const cube = code - 16;
  const parts = [Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6];
  const bits = parts.reduce((sum, part, index) => sum + (part >= 3 ? 1 << index : 0), 0);
  return bits === 0 ? 8 : bits;
}
