/** Markdown as elements. Every text becomes a text node; no markup of others is ever parsed. */

import { type ComponentChild, h } from "preact";
import { useMemo } from "preact/hooks";
import { type Block, type Inline, parse } from "./markdown";

/** Longer texts are shown as they were written. */
const LONGEST = 200_000;

export function Markdown({ text }: { text: string }) {
  const blocks = useMemo(() => (text.length > LONGEST ? null : parse(text)), [text]);
  if (blocks === null) return <pre class="plain">{text.slice(0, 2 * LONGEST)}</pre>;
  return <div class="markdown" dir="auto">{blocks.map(block)}</div>;
}

function block(part: Block, key: number): ComponentChild {
  switch (part.kind) {
    case "heading":
      // The page has the first two levels for itself.
      return h(`h${Math.min(6, part.level + 2)}`, { key }, part.content.map(span));
    case "code":
      return <pre key={key} tabIndex={0}><code>{part.text}</code></pre>;
    case "quote":
      return <blockquote key={key}>{part.content.map(block)}</blockquote>;
    case "list": {
      const items = part.items.map((item, at) => <li key={at}>{item.map(item.length === 1 ? loose : block)}</li>);
      return part.ordered ? <ol key={key} start={part.start}>{items}</ol> : <ul key={key}>{items}</ul>;
    }
    case "table":
      return (
        <div key={key} class="scroll-x" tabIndex={0}>
          <table>
            <thead><tr>{part.head.map((cell, at) => <th key={at}>{cell.map(span)}</th>)}</tr></thead>
            <tbody>
              {part.rows.slice(0, 1000).map((row, at) => (
                <tr key={at}>{row.map((cell, index) => <td key={index}>{cell.map(span)}</td>)}</tr>
              ))}
            </tbody>
          </table>
        </div>
      );
    case "rule":
      return <hr key={key} />;
    default:
      return <p key={key}>{part.content.map(span)}</p>;
  }
}

/** The only paragraph of a list item stands without the space of a paragraph. */
function loose(part: Block, key: number): ComponentChild {
  return part.kind === "paragraph" ? <span key={key}>{part.content.map(span)}</span> : block(part, key);
}

function span(part: Inline, key: number): ComponentChild {
  switch (part.kind) {
    case "text":
      return part.text;
    case "code":
      return <code key={key}>{part.text}</code>;
    case "link":
      return (
        <a key={key} href={part.to} target="_blank" rel="noopener noreferrer nofollow" title={part.to}>
          {part.content.map(span)}
        </a>
      );
    default:
      return h(part.kind, { key }, part.content.map(span));
  }
}
