"use strict";
// What the trace browser draws with: frames in full, Python in colour, elements.
const Frames = (() => {
  const UNCHANGED = "..";
  const KEYWORDS = "and|as|assert|async|await|break|class|continue|def|del|elif|else|except|False|finally|for|from|" +
    "global|if|import|in|is|lambda|None|nonlocal|not|or|pass|raise|return|True|try|while|with|yield";
  const PYTHON = new RegExp(
    `(?<comment>#.*)|(?<string>\\b[rRbBfFuU]{0,2}(?:"(?:[^"\\\\]|\\\\.)*"|'(?:[^'\\\\]|\\\\.)*')|` +
    `"(?:[^"\\\\]|\\\\.)*"|'(?:[^'\\\\]|\\\\.)*')|\\b(?<keyword>${KEYWORDS})\\b|\\b(?<number>\\d[\\w.]*)`, "g");

  const make = (tag, className = "", ...children) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  };

  const painted = (line) => {
    const pieces = [];
    let end = 0;
    for (const match of line.matchAll(PYTHON)) {
      const kind = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
      pieces.push(line.slice(end, match.index), make("span", `py-${kind}`, match[0]));
      end = match.index + match[0].length;
    }
    return [...pieces, line.slice(end)];
  };

  const fill = (select, options) => select.replaceChildren(...options.map(([value, text]) => {
    const option = make("option", "", text);
    option.value = value;
    return option;
  }));

  /** Each frame's locals in full: ".." replaced by the value before it, as `report.frames.full_locals` does. */
  const fullLocals = (frames) => {
    let before = new Map();
    return frames.map(({ event, locals }) => {
      before = new Map((locals ?? []).map(([name, value]) =>
        [name, event === "line" && value === UNCHANGED && before.has(name) ? before.get(name) : value]));
      return before;
    });
  };

  /** The line (from 1) that reads `source` and is nearest to `near`; frames that a model said have no number. */
  const nearestLine = (program, source, near) => {
    const wanted = source.trimEnd();
    const places = program.flatMap((line, index) => (line.trimEnd() === wanted ? [index + 1] : []));
    return places.sort((one, other) => Math.abs(one - near) - Math.abs(other - near))[0] ?? null;
  };

  return { UNCHANGED, make, painted, fill, fullLocals, nearestLine };
})();
