/** Moments as a calendar has them: what a clock gone wild told may lie beyond every calendar. */

/** `2026-11-21T16:45:03.000Z`, or null where no calendar has the moment. */
export function iso(time: number): string | null {
  const when = new Date(time * 1000);
  return Number.isNaN(when.getTime()) ? null : when.toISOString();
}

/** What is shown of such a moment: the number that was told. */
export function beyond(time: number): string {
  return `${time.toPrecision(6)} s since 1970`;
}
