/** Requested against used: three bars, each with its numbers. */

import { plainDuration } from "../../clock";
import { bytes } from "../text";
import { type Measure, measures, type Resources, useOf } from "./advice";

function said(measure: Measure, value: number | null): string {
  if (value === null) return "–";
  if (measure.what === "memory") return bytes(value);
  if (measure.what === "time") return plainDuration(value);
  return Number.isInteger(value) ? String(value) : value.toFixed(1);
}

interface Props {
  resources: Record<string, unknown> | null | undefined;
  details: Record<string, unknown> | null | undefined;
  compact?: boolean;
}

export function Measures({ resources, details, compact = false }: Props) {
  const rows = measures(resources as Resources | null | undefined, useOf(details));
  const known = rows.filter((row) => row.used !== null || (!compact && row.asked !== null));
  if (known.length === 0) return null;
  return (
    <span class={`measures${compact ? " compact" : ""}`}>
      {known.map((row) => (
        <span key={row.what} class="measure">
          <span class="what">{row.what}</span>
          {row.share !== null && !compact && (
            <meter
              min={0}
              max={1}
              value={Math.min(1, row.share)}
              aria-label={`${row.what}: ${Math.round(100 * row.share)} % of what was asked for`}
            />
          )}
          <span class="num">
            {said(row, row.used)}
            {row.asked !== null && ` of ${said(row, row.asked)}`}
            {row.share !== null && !compact && ` · ${Math.round(100 * row.share)} %`}
          </span>
        </span>
      ))}
    </span>
  );
}
