/** What the forms and colours of the timeline mean. */

export function Legend({ bins }: { bins: boolean }) {
  return (
    <span class="legend" aria-label="Legend">
      {!bins && <span><i class="key waiting" /> waiting for others</span>}
      <span><i class={bins ? "key queued-many" : "key queued"} /> queued</span>
      <span><i class={bins ? "key running-many" : "key running"} /> running{bins ? "" : ", in the colour of its state"}</span>
      {!bins && <span><i class="key limit" /> time asked for</span>}
    </span>
  );
}
