/**
 * Markdown as a tree of known parts; what shows it makes elements of them and never markup.
 *
 * Raw HTML is text here. Links are kept where they lead to the web, to mail, or to a place on the
 * page; images become links, because a page with results must not call foreign servers by itself.
 */

export type Inline =
  | { kind: "text"; text: string }
  | { kind: "code"; text: string }
  | { kind: "strong" | "em" | "del"; content: Inline[] }
  | { kind: "link"; to: string; content: Inline[] };

export type Block =
  | { kind: "heading"; level: number; content: Inline[] }
  | { kind: "paragraph"; content: Inline[] }
  | { kind: "code"; language: string; text: string }
  | { kind: "quote"; content: Block[] }
  | { kind: "list"; ordered: boolean; start: number; items: Block[][] }
  | { kind: "table"; head: Inline[][]; rows: Inline[][][] }
  | { kind: "rule" };

/** Quotes and lists within each other deeper than this are shown as text. */
const DEEPEST = 8;

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+-]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|(\d{1,9})[.)])\s+(.*)$/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/** Where a link may lead; everything else (javascript:, data:, …) is none. */
export function safeLink(target: string): string | null {
  const cleaned = target.trim();
  return /^(https?:\/\/|mailto:)[^\s<>"]+$/i.test(cleaned) ? cleaned : null;
}

export function parse(text: string, depth = 0): Block[] {
  return new Reader(text.replaceAll("\r\n", "\n").split("\n"), depth).blocks();
}

class Reader {
  private at = 0;
  private readonly found: Block[] = [];

  constructor(
    private readonly lines: string[],
    private readonly depth: number,
  ) {}

  blocks(): Block[] {
    while (this.at < this.lines.length) {
      const line = this.lines[this.at]!;
      if (line.trim() === "") this.at += 1;
      else this.found.push(this.block(line));
    }
    return this.found;
  }

  private block(line: string): Block {
    const fence = FENCE.exec(line);
    if (fence) return this.fenced(fence[1]!, fence[2] ?? "");
    const heading = HEADING.exec(line);
    if (heading) {
      this.at += 1;
      return { kind: "heading", level: heading[1]!.length, content: inline(heading[2]!) };
    }
    if (RULE.test(line)) {
      this.at += 1;
      return { kind: "rule" };
    }
    const deeper = this.depth < DEEPEST;
    if (deeper && QUOTE.test(line)) return this.quote();
    const item = ITEM.exec(line);
    if (deeper && item) return this.list(item);
    if (line.includes("|") && DIVIDER.test(this.lines[this.at + 1] ?? "")) return this.table(line);
    return this.paragraph();
  }

  private fenced(fence: string, language: string): Block {
    const text: string[] = [];
    for (this.at += 1; this.at < this.lines.length; this.at += 1) {
      const line = this.lines[this.at]!;
      if (line.trim().startsWith(fence) && line.trim().replaceAll(fence[0]!, "") === "") {
        this.at += 1;
        break;
      }
      text.push(line);
    }
    return { kind: "code", language, text: text.join("\n") };
  }

  private quote(): Block {
    const text: string[] = [];
    for (; this.at < this.lines.length && QUOTE.test(this.lines[this.at]!); this.at += 1) {
      text.push(this.lines[this.at]!.replace(QUOTE, ""));
    }
    return { kind: "quote", content: new Reader(text, this.depth + 1).blocks() };
  }

  private list(first: RegExpExecArray): Block {
    const ordered = first[3] !== undefined;
    const items: Block[][] = [];
    for (let item: RegExpExecArray | null = first; item; item = this.nextItem(ordered)) {
      const indent = item[0].length - item[4]!.length;
      const text = [item[4]!];
      for (this.at += 1; this.at < this.lines.length; this.at += 1) {
        const line = this.lines[this.at]!;
        const isInside = line.startsWith(" ".repeat(Math.min(indent, 4))) && line.trim() !== "";
        const isBlank = line.trim() === "" && /^\s{2,}\S/.test(this.lines[this.at + 1] ?? "");
        if (!isInside && !isBlank) break;
        text.push(line.slice(Math.min(indent, 4)));
      }
      items.push(new Reader(text, this.depth + 1).blocks());
    }
    return { kind: "list", ordered, start: Number(first[3] ?? 1), items };
  }

  private nextItem(ordered: boolean): RegExpExecArray | null {
    const item = ITEM.exec(this.lines[this.at] ?? "");
    return item && (item[3] !== undefined) === ordered && !RULE.test(item[0]) ? item : null;
  }

  private table(line: string): Block {
    const head = cells(line);
    const rows: Inline[][][] = [];
    this.at += 2;
    while (this.at < this.lines.length && this.lines[this.at]!.includes("|")) {
      rows.push(cells(this.lines[this.at]!));
      this.at += 1;
    }
    return { kind: "table", head, rows };
  }

  private paragraph(): Block {
    const text = [this.lines[this.at]!];
    for (this.at += 1; this.at < this.lines.length; this.at += 1) {
      const line = this.lines[this.at]!;
      const isOther = [FENCE, HEADING, RULE, QUOTE, ITEM].some((form) => form.test(line));
      if (line.trim() === "" || isOther) break;
      text.push(line);
    }
    return { kind: "paragraph", content: inline(text.join("\n")) };
  }
}

function cells(line: string): Inline[][] {
  const inner = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => inline(cell.trim().replaceAll("\\|", "|")));
}

// Each alternative is bounded, so that no text makes the search long.
const MARK = new RegExp(
  [
    "(`{1,3})([^`]{1,2000}?)\\1",
    "!?\\[([^\\]\\n]{0,500})\\]\\(([^()\\s]{1,2000})(?:\\s+\"[^\"]{0,200}\")?\\)",
    "<(https?://[^\\s<>]{1,2000})>",
    "\\*\\*([^*\\n]{1,2000}?)\\*\\*",
    "~~([^~\\n]{1,2000}?)~~",
    "(?<![\\w*])\\*([^*\\s][^*\\n]{0,2000}?)\\*(?!\\w)",
    "(?<!\\w)_([^_\\s][^_\\n]{0,2000}?)_(?!\\w)",
    "\\\\([!-/:-@[-`{-~])",
  ].join("|"),
  "g",
);

export function inline(text: string, depth = 0): Inline[] {
  if (depth > DEEPEST) return [{ kind: "text", text }];
  const found: Inline[] = [];
  let at = 0;
  for (const match of text.matchAll(MARK)) {
    if (match.index > at) found.push({ kind: "text", text: text.slice(at, match.index) });
    found.push(marked(match, depth + 1));
    at = match.index + match[0].length;
  }
  if (at < text.length) found.push({ kind: "text", text: text.slice(at) });
  return found;
}

function marked(match: RegExpMatchArray, depth: number): Inline {
  const [whole, , code, label, target, address, strong, del, star, score, plain] = match;
  if (code !== undefined) return { kind: "code", text: code };
  if (target !== undefined) return link(whole, target, inline(label || target, depth));
  if (address !== undefined) return link(whole, address, [{ kind: "text", text: address }]);
  if (strong !== undefined) return { kind: "strong", content: inline(strong, depth) };
  if (del !== undefined) return { kind: "del", content: inline(del, depth) };
  const em = star ?? score;
  if (em !== undefined) return { kind: "em", content: inline(em, depth) };
  return { kind: "text", text: plain ?? whole };
}

function link(whole: string, target: string, content: Inline[]): Inline {
  const to = safeLink(target);
  return to === null ? { kind: "text", text: whole } : { kind: "link", to, content };
}
