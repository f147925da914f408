import { describe, expect, it } from "vitest";
import { inline, parse, safeLink } from "./artifacts/markdown";
import { pieces, stripped } from "./logs/ansi";
import { highlighted } from "./logs/search";
import { duration, plainDuration } from "../durations";
import { beyond, iso } from "../moments";
import { advice, useOf } from "./task/advice";
import { bytes } from "./text";

describe("terminal colours", () => {
  it("become pieces of plain text with a style", () => {
    const found = pieces("a \u001b[1;31mred\u001b[0m b");
    expect(found.map(({ text, colour, bold }) => [text, colour, bold])).toEqual([
      ["a ", null, false],
      ["red", 1, true],
      [" b", null, false],
    ]);
  });

  it("leave nothing of links, movements and titles", () => {
    const evil = "\u001b]8;;https://evil\u0007text\u001b]8;;\u0007 \u001b[2J\u001b]0;title\u001b\\end\u001b";
    expect(stripped(evil)).toBe("text end·");
  });

  it("show of a progress bar what a terminal would show", () => {
    expect(stripped("10 %\r50 %\r100 %\nnext")).toBe("100 %\nnext");
  });
});

describe("markdown", () => {
  it("keeps markup and dangerous links as text", () => {
    expect(parse("<img src=x onerror=alert(1)>")).toEqual([
      { kind: "paragraph", content: [{ kind: "text", text: "<img src=x onerror=alert(1)>" }] },
    ]);
    expect(inline("[a](javascript:alert(1))").every((part) => part.kind !== "link")).toBe(true);
    for (const target of ["javascript:alert(1)", "data:text/html,x", "//host", " vbscript:x"]) {
      expect(safeLink(target)).toBeNull();
    }
    expect(safeLink("https://example.org/a?b=c")).toBe("https://example.org/a?b=c");
  });

  it("reads tables, lists within lists and fences", () => {
    const kinds = parse("# T\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- x\n  - y\n\n```py\n<b>\n```").map((b) => b.kind);
    expect(kinds).toEqual(["heading", "table", "list", "code"]);
  });

  it("ends soon on texts that are made to be slow", () => {
    const began = Date.now();
    for (const text of ["*".repeat(20_000), "[".repeat(20_000), "> ".repeat(5_000), "`".repeat(20_000)]) parse(text);
    expect(Date.now() - began).toBeLessThan(2_000);
  });
});

describe("search", () => {
  it("marks every place whatever its case", () => {
    expect(highlighted("Error: an ERROR", "error").filter((part) => part.hit)).toHaveLength(2);
    expect(highlighted("plain", "")).toEqual([{ text: "plain", hit: false }]);
  });
});

describe("advice", () => {
  const asked = { cpus: 8, memory: 32 * 2 ** 30, walltime: 7200 };

  it("says nothing where a request fits", () => {
    const use = useOf({ max_rss: 20 * 2 ** 30, elapsed: 5000, cpu: 38_000 });
    expect(advice(asked, use, "Completed")).toEqual([]);
  });

  it("says what to ask for where much was left unused", () => {
    const lines = advice(asked, useOf({ max_rss: 2 ** 30, elapsed: 600, cpu: 600 }), "Completed").join(" ");
    expect(lines).toContain('memory="1536MB"');
    expect(lines).toContain('walltime="15m"');
    expect(lines).toContain("cpus=1");
  });

  it("asks for more after a crash for memory or for time", () => {
    expect(advice(asked, useOf({}), "OutOfMemory")[0]).toContain('memory="64GB"');
    expect(advice(asked, useOf({}), "WalltimeExceeded")[0]).toContain('walltime="4h"');
  });
});

describe("figures", () => {
  it("of short times are told in milliseconds and never as nothing", () => {
    expect([0, 0.0002, 0.0042, 0.0994, 0.42, 12].map(duration)).toEqual([
      "0 s", "<1 ms", "4 ms", "99 ms", "0.42 s", "12 s",
    ]);
  });

  it("that were asked for are round", () => {
    expect([300, 5400, 72_000, 172_800].map(plainDuration)).toEqual(["5 min", "1 h 30 min", "20 h", "2 d"]);
    expect([64 * 2 ** 20, 1.5 * 2 ** 30].map(bytes)).toEqual(["64 MiB", "1.5 GiB"]);
  });
});

describe("a moment that no calendar has", () => {
  it("is no reason to show nothing at all", () => {
    expect(iso(0)).toBe("1970-01-01T00:00:00.000Z");
    for (const odd of [8.65e12, -8.65e12, 1.7e18, 1e300, -1.7e308]) expect(iso(odd)).toBe(null);
    expect(beyond(1.7e18)).toBe("1.70000e+18 s since 1970");
  });
});
