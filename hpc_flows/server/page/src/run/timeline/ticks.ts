function two(value: number): string {
  return String(value).padStart(2, "0");
}

/**
 * The label of a mark on a time axis, as exact as the distance between marks asks for.
 *
 * `day` is the day of the first mark: another day is named, and the first mark always is.
 */
export function tickLabel(time: number, step: number, day: string | null): string {
  const date = new Date(time * 1000);
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}`;
  const named = date.toLocaleDateString(undefined, { month: "short", day: "numeric" });
  if (step >= 86400) return named;
  let label = clock;
  if (step < 60) label += `:${two(date.getSeconds())}`;
  if (step < 1) label += `.${String(date.getMilliseconds()).padStart(3, "0")}`;
  const isMidnight = date.getHours() === 0 && date.getMinutes() === 0;
  const isOther = day !== null && isMidnight && date.toDateString() !== day;
  return isOther || (day === null && step >= 60) ? `${named} ${label}` : label;
}
