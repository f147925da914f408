/** Rows of one height of which only those in sight are in the document. */

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { px } from "../measure";

/** Rows above and below what is in sight, so that scrolling shows no gaps. */
const SPARE = 8;
/** Browsers draw nothing below about 33 million pixels. */
const DEEPEST = 30_000_000;

interface Props {
  count: number;
  /** Height of a row in pixels. */
  size: number;
  label: string;
  render: (index: number, active: boolean) => ComponentChildren;
  /** Told which rows are in sight. */
  onSight?: (first: number, last: number) => void;
  onOpen?: (index: number) => void;
}

const STEPS: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 };

export function VirtualRows({ count, size, label, render, onSight, onOpen }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [room, setRoom] = useState(600);
  const [active, setActive] = useState<number | null>(null);
  useLayoutEffect(() => {
    const node = box.current!;
    const measure = (): void => setRoom(node.clientHeight);
    measure();
    const watcher = new ResizeObserver(measure);
    watcher.observe(node);
    return () => watcher.disconnect();
  }, []);
  const shown = Math.min(count, Math.floor(DEEPEST / size));
  const first = Math.max(0, Math.min(Math.floor(top / size), shown - 1) - SPARE);
  const last = Math.min(shown - 1, Math.ceil((top + room) / size) + SPARE);
  useEffect(() => onSight?.(first, last), [first, last, count, onSight]);

  const move = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(room / size) - 1);
    const steps: Record<string, number> = {
      ...STEPS,
      PageDown: page,
      PageUp: -page,
      Home: -shown,
      End: shown,
    };
    const step = steps[event.key];
    if (event.key === "Enter" && active !== null && event.target === box.current) onOpen?.(active);
    else if (step !== undefined) {
      const from = active ?? (step > 0 ? Math.floor(top / size) - 1 : Math.floor(top / size));
      const next = Math.max(0, Math.min(shown - 1, from + step));
      setActive(next);
      reveal(box.current!, next * size, size, room);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const rows: ComponentChildren[] = [];
  for (let index = first; index <= last; index += 1) {
    rows.push(
      <div
        key={index}
        class={`virtual${index === active ? " at" : ""}`}
        style={{ top: px(index * size), height: px(size) }}
        id={index === active ? "active-row" : undefined}
        onClick={() => setActive(index)}
      >
        {render(index, index === active)}
      </div>,
    );
  }
  return (
    <div
      ref={box}
      class="virtual-rows"
      style={{ height: px(Math.min(shown * size + 2, 680)) }}
      tabIndex={0}
      role="rowgroup"
      aria-label={`${label}. Arrow keys choose a row, Enter opens it.`}
      aria-activedescendant={active === null ? undefined : "active-row"}
      onScroll={(event) => setTop(event.currentTarget.scrollTop)}
      onKeyDown={move}
    >
      <div style={{ height: px(shown * size) }}>{rows}</div>
    </div>
  );
}

function reveal(box: HTMLElement, at: number, size: number, room: number): void {
  if (at < box.scrollTop) box.scrollTop = at;
  else if (at + size > box.scrollTop + room) box.scrollTop = at + size - room;
}
