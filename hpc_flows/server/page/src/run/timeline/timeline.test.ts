import { describe, expect, it } from "vitest";
import { barAt, lanesOf, segmentsOf } from "./lanes";
import { IDLE_PIXELS, idleStretches, stepFor, TimeScale } from "./scale";
import type { TimelineRow } from "./shape";

function row(more: Partial<TimelineRow> = {}): TimelineRow {
  const times = { created: 0, queued: 10, started: 40, ended: 100 };
  const state = { state_type: "COMPLETED", state_name: "Completed" };
  return { id: "a", name: "a-0", task: "a", attempt: 1, walltime: null, ...times, ...state, ...more };
}

describe("an attempt", () => {
  it("is cut into waiting, queued and running", () => {
    expect(segmentsOf(row(), 500)).toEqual([
      { stage: "waiting", from: 0, to: 10 },
      { stage: "queued", from: 10, to: 40 },
      { stage: "running", from: 40, to: 100 },
    ]);
  });

  it("goes on until now while it has not ended", () => {
    expect(segmentsOf(row({ ended: null }), 500).at(-1)).toEqual({ stage: "running", from: 40, to: 500 });
    const queued = segmentsOf(row({ started: null, ended: null }), 500);
    expect(queued.at(-1)).toEqual({ stage: "queued", from: 10, to: 500 });
  });

  it("never runs backwards where a node's clock is slow", () => {
    const segments = segmentsOf(row({ started: 5 }), 500);
    for (const { from, to } of segments) expect(to).toBeGreaterThanOrEqual(from);
    expect(segments.at(-1)).toEqual({ stage: "running", from: 10, to: 100 });
  });
});

describe("a lane", () => {
  const rows = [row({ attempt: 2, created: 100, queued: 110, started: 120, ended: 200 }), row()];

  it("has the attempts of one task run in their order", () => {
    const [lane] = lanesOf(rows, 500);
    expect(lane!.bars.map((bar) => bar.row.attempt)).toEqual([1, 2]);
    expect([lane!.from, lane!.to]).toEqual([0, 200]);
  });

  it("tells which attempt lies nearest to a time", () => {
    const [lane] = lanesOf(rows, 500);
    expect(barAt(lane!, 20)!.row.attempt).toBe(1);
    expect(barAt(lane!, 190)!.row.attempt).toBe(2);
  });
});

describe("the scale", () => {
  const lanes = lanesOf(
    [row({ ended: 50 }), row({ id: "b", created: 10_000, queued: 10_010, started: 10_020, ended: 10_100 })],
    20_000,
  );

  it("folds what lies idle between two busy stretches, and nothing that runs", () => {
    const idle = idleStretches(lanes, 0, 10_100);
    expect(idle).toHaveLength(1);
    expect(idle[0]!.from).toBeGreaterThan(50);
    expect(idle[0]!.to).toBeLessThan(10_000);
    expect(idleStretches(lanesOf([row({ ended: 10_100 })], 0), 0, 10_100)).toEqual([]);
  });

  it("does not call idle what comes after the last bar", () => {
    const running = lanesOf([row({ ended: null, walltime: 7200 })], 100);
    for (const gap of idleStretches(running, 0, 150)) expect(gap.to).toBeLessThanOrEqual(100);
  });

  it("leads from times to pixels and back, with and without folds", () => {
    for (const idle of [[], idleStretches(lanes, 0, 10_100)]) {
      const scale = new TimeScale(0, 10_100, 1000, idle);
      for (const time of [0, 30, 50, 5_000, 10_050, 10_100]) {
        expect(scale.time(scale.x(time))).toBeCloseTo(time, 3);
      }
      expect(scale.x(0)).toBe(0);
      expect(scale.x(10_100)).toBeCloseTo(1000, 6);
    }
  });

  it("gives a fold few pixels and says how long it is", () => {
    const [fold] = new TimeScale(0, 10_100, 1000, idleStretches(lanes, 0, 10_100)).breaks();
    expect(fold!.width).toBe(IDLE_PIXELS);
    expect(fold!.seconds).toBeGreaterThan(9_000);
  });

  it("keeps its marks apart, at steps that people read", () => {
    const ticks = new TimeScale(0, 3600, 1000).ticks(96);
    ticks.slice(1).forEach((tick, at) => expect(tick.x - ticks[at]!.x).toBeGreaterThan(60));
    expect(stepFor(3.6, 96)).toBe(600);
    expect(new TimeScale(5, 5, 100).ticks()).toBeInstanceOf(Array);
  });
});
