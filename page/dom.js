/* Elements, and characters as one can see them. */
"use strict";

/** An element: attributes by name, listeners as "onclick", then its children. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

const byId = (id) => document.getElementById(id);

/** A <select> with options [[value, label], ...]. */
function choice(attributes, options, chosen) {
  const node = el("select", attributes, ...options.map(([value, label]) => el("option", { value }, label)));
  node.value = chosen;
  return node;
}

/** Put children in place of what `node` holds. */
function fill(node, ...children) {
  node.replaceChildren(...children.filter((child) => child != null));
}

const NAMED = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" };
const HIDDEN = /^[\p{C}\p{Z}]$/u; // controls, formats, lone surrogates, spaces of all kinds
const MARK = /^\p{M}$/u; // an accent, a vowel sign: what stands on or beside a letter
const codePoint = (char) => `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** A character as one can see it where it stands alone, such as in a table. */
function visible(char) {
  if (NAMED[char]) return NAMED[char];
  if (HIDDEN.test(char)) return codePoint(char);
  return MARK.test(char) ? `◌${char}` : char;
}

const LEFTWARDS = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

/** A character as one can see it after another: a mark then stands on its letter. */
function visibleAfter(char, before) {
  const carried = MARK.test(char) && before !== undefined && !HIDDEN.test(before) && !NAMED[before];
  return carried ? char : visible(char);
}

/** Characters one after the other, as one can see them. Those that run from right to left change
 * nothing around them: they stand between U+2068 and U+2069, which isolate. */
function visibleText(chars) {
  const text = chars.map((char, i) => visibleAfter(char, chars[i - 1])).join("");
  return LEFTWARDS.test(text) ? `\u2068${text}\u2069` : text;
}

/** A character as a screen reader should say it. */
function spoken(char) {
  const names = { " ": "space", "\n": "new line", "\t": "tab", "\r": "carriage return" };
  return names[char] ?? visibleText([char]);
}

/** A character in a box of its own, so that its direction changes nothing around it. */
const glyph = (char) => el("bdi", { class: "glyph" }, visible(char));

const percent = (share) => (share > 0 && share < 0.001 ? "<0.1 %" : `${(100 * share).toFixed(1)} %`);
const minus = (text) => text.replace("-", "−");

/** A number with its sign, as short as it tells something. */
function signed(value) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  const text = size >= 1e5 || (size && size < 5e-4) ? value.toExponential(1) : value.toFixed(size < 100 ? 3 : 1);
  return minus(value > 0 ? `+${text}` : text);
}

/** A bar for a signed value: to the right of the middle above zero, to the left below. */
function bar(value, most) {
  const share = most > 0 && Number.isFinite(value) ? Math.min(1, Math.abs(value) / most) : 0;
  const filled = el("span", { class: value < 0 ? "fill below" : "fill above" });
  filled.style.width = `${50 * share}%`;
  return el("span", { class: "bar", "aria-hidden": "true" }, filled);
}

/** A bar for a share of 1. */
function share(value) {
  const filled = el("span", { class: "fill part" });
  filled.style.width = `${100 * Math.min(1, value)}%`;
  return el("span", { class: "bar", "aria-hidden": "true" }, filled);
}

/** A table: caption, heads, and rows of cells, of which the first names the row. */
function table(caption, heads, rows, attributes = {}) {
  const cells = (row) => row.map((cell, i) => (i ? el("td", {}, cell) : el("th", { scope: "row" }, cell)));
  return el("table", attributes,
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...cells(row)))));
}

/** Work in slices, so that the page stays alive; a new piece of work ends the one before. */
const work = {
  current: null,

  /** steps: a generator, which yields where it may be interrupted. Resolves to whether it ended. */
  run(steps) {
    const mine = (this.current = { stop: false });
    return new Promise((resolve) => {
      const channel = new MessageChannel();
      const finish = (whole) => {
        channel.port1.close();
        if (this.current === mine) this.current = null;
        resolve(whole);
      };
      channel.port1.onmessage = () => {
        const until = performance.now() + 12; // ms: less than a frame
        do {
          if (mine.stop || this.current !== mine) return finish(false);
          if (steps.next().done) return finish(true);
        } while (performance.now() < until);
        channel.port2.postMessage(null);
      };
      channel.port2.postMessage(null);
    });
  },

  stop() {
    if (this.current) this.current.stop = true;
  },
};
