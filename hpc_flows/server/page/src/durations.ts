/** Durations as people read them. */

export const MINUTE = 60;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** `4 ms`, `0.40 s`, `12 s`, `3 min 05 s`, `2 h 07 min`, `4 d 03 h`; never more than two parts. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const s = Math.max(0, seconds);
  if (s < 0.0995) return s === 0 ? "0 s" : s < 0.001 ? "<1 ms" : `${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${s.toFixed(s < 0.95 ? 2 : 1)} s`;
  const whole = Math.round(s);
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min ${two(whole % MINUTE)} s`;
  if (whole < DAY)
    return `${Math.floor(whole / HOUR)} h ${two(Math.floor((whole % HOUR) / MINUTE))} min`;
  return `${Math.floor(whole / DAY)} d ${two(Math.floor((whole % DAY) / HOUR))} h`;
}

/** A length that was asked for, which is round as a rule: `5 min`, `2 h 30 min`, `20 h`. */
export function plainDuration(seconds: number): string {
  return duration(seconds).replace(/ 00 (s|min|h)$/, "");
}

export function two(n: number): string {
  return String(n).padStart(2, "0");
}
