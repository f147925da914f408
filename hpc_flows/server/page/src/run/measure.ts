import { useLayoutEffect, useState } from "preact/hooks";

/** The width of an element in pixels, kept up to date. */
export function useWidth(element: { current: HTMLElement | null }): number {
  return useSize(element)[0];
}

/** Width and height of an element's content in pixels, kept up to date. */
export function useSize(element: { current: HTMLElement | null }): [number, number] {
  const [size, setSize] = useState<[number, number]>([0, 0]);
  useLayoutEffect(() => {
    const node = element.current;
    if (node === null) return undefined;
    const measure = (): void =>
      setSize((was) =>
        was[0] === node.clientWidth && was[1] === node.clientHeight
          ? was
          : [node.clientWidth, node.clientHeight],
      );
    measure();
    const watcher = new ResizeObserver(measure);
    watcher.observe(node);
    return () => watcher.disconnect();
  }, []);
  return size;
}

/** A length for a style: this Preact adds no unit to numbers. */
export function px(length: number): string {
  return `${length}px`;
}
