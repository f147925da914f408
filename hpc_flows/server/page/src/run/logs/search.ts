/** Cut a text at each place where the wanted words stand, whatever their case. */
export function highlighted(text: string, wanted: string): { text: string; hit: boolean }[] {
  if (wanted === "") return [{ text, hit: false }];
  const low = text.toLowerCase();
  const look = wanted.toLowerCase();
  // Lower case may change a text's length in some languages; then places would not fit.
  if (low.length !== text.length) return [{ text, hit: false }];
  const parts: { text: string; hit: boolean }[] = [];
  let at = 0;
  for (let hit = low.indexOf(look); hit >= 0; hit = low.indexOf(look, at)) {
    if (hit > at) parts.push({ text: text.slice(at, hit), hit: false });
    parts.push({ text: text.slice(hit, hit + look.length), hit: true });
    at = hit + look.length;
  }
  if (at < text.length) parts.push({ text: text.slice(at), hit: false });
  return parts;
}

/** Names of the levels of Python's logging. */
export function levelName(level: number): string {
  if (level >= 50) return "CRITICAL";
  if (level >= 40) return "ERROR";
  if (level >= 30) return "WARNING";
  if (level >= 20) return "INFO";
  return "DEBUG";
}

export const LEVELS: readonly [number, string][] = [
  [0, "all levels"],
  [10, "debug and above"],
  [20, "info and above"],
  [30, "warnings and above"],
  [40, "errors"],
];
