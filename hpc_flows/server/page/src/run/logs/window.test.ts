import { describe, expect, it } from "vitest";
import type { LogRecord, LogsAnswer } from "../shapes";
import { NOTHING, withArrived, withNewest, withOlder } from "./window";

function record(id: number, t: number): LogRecord {
  return { id: String(id), t, cursor: `${t}:${id}`, level: 20, message: "", logger: "", task_run: null } as unknown as LogRecord;
}

function answer(items: LogRecord[], more: Partial<LogsAnswer> = {}): LogsAnswer {
  return { items, next: null, previous: null, dropped: 0, arrived: "9", ...more };
}

function numbers(window: { items: LogRecord[] }): number[] {
  return window.items.map((item) => Number(item.id));
}

describe("the window of a log", () => {
  it("puts what came late where it belongs by its time", () => {
    const held = withNewest(NOTHING, answer([record(3, 30), record(2, 20), record(1, 10)]));
    const window = withArrived(held, answer([record(4, 15), record(5, 40)], { arrived: "11" }));
    expect(numbers(window)).toEqual([1, 4, 2, 3, 5]);
    expect(window.arrived).toBe("11");
  });

  it("leaves what is older than all that it holds to those who look further back", () => {
    const held = withNewest(NOTHING, answer([record(3, 30), record(2, 20)], { next: "20:2" }));
    const window = withArrived(held, answer([record(4, 5)]));
    expect(numbers(window)).toEqual([2, 3]);
    expect(numbers(withOlder(window, answer([record(4, 5), record(1, 1)])))).toEqual([1, 4, 2, 3]);
  });

  it("takes the beginning, too, where it holds all there is", () => {
    const held = withNewest(NOTHING, answer([record(2, 20)]));
    expect(numbers(withArrived(held, answer([record(3, 5)])))).toEqual([3, 2]);
  });

  it("holds a part of a long log and knows from where older ones go on", () => {
    const many = Array.from({ length: 600 }, (_, at) => record(at + 1, at + 1));
    const held = withNewest(NOTHING, answer(many));
    const window = withArrived(held, answer([record(601, 601)]));
    expect(window.items.length).toBe(600);
    expect(window.olderFrom).toBe("2:2");
  });
});
