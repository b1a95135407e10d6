/* Every weight of a model in labelled tables that can be edited. */
"use strict";

const MOST_ROWS = 40, MOST_COLUMNS = 24; // cells on the page at once: more is slow, and no one reads it

class WeightsView {
  constructor(side, app) {
    this.side = side;
    this.app = app;
    this.count = el("span", { role: "status" });
    this.undo = el("button", { type: "button", onclick: () => this.change(() => side.undo()) }, "Undo");
    this.reset = el("button", { type: "button", onclick: () => this.change(() => side.reset()) }, "Reset all");
    this.tensors = [...side.model.tensors].map(([name, tensor]) => this.tensor(name, tensor));
    this.box = el("section", { class: "side", "aria-label": `Weights of ${side.label}` },
      el("h3", {}, side.label),
      el("p", { class: "row" }, this.undo, this.reset, this.count),
      ...this.groups());
    this.tell();
  }

  /** The tensors by block, closed where there are many. */
  groups() {
    const groups = new Map();
    [...this.side.model.tensors.keys()].forEach((name, i) => {
      const block = name.match(/^blocks\.(\d+)/)?.[1], group = block ? `block ${block}` : name.split(".")[0];
      groups.set(group, [...(groups.get(group) ?? []), this.tensors[i]]);
    });
    const open = groups.size < 7;
    return [...groups].flatMap(([group, nodes]) => nodes.length < 3 ? nodes
      : [el("details", { class: "group", open }, el("summary", {}, group), ...nodes)]);
  }

  /** Change weights, then everything that depends on them. */
  change(how) {
    how();
    this.app.weightsChanged(this.side);
  }

  tell() {
    const n = new Set(this.side.edits.map(([offset]) => offset)).size;
    this.undo.disabled = this.reset.disabled = !n;
    this.count.textContent = n === 1 ? "1 weight edited" : n ? `${n} weights edited` : "as they were";
    for (const node of this.tensors) node.redraw?.();
  }

  /** One tensor, drawn when it is opened. */
  tensor(name, { shape, offset, values }) {
    const rows = shape.length > 1 ? shape[0] : 1, columns = shape.at(-1);
    const node = el("details", { class: "tensor" }, el("summary", {},
      el("code", {}, name), ` ${shape.join(" × ")}`));
    const body = el("div"), from = { row: 0, column: 0 };
    node.append(body);
    const draw = () => {
      const [down, across] = labels(this.side, name, shape);
      const shownRows = [...Array(rows).keys()].slice(from.row, from.row + MOST_ROWS);
      const shownColumns = [...Array(columns).keys()].slice(from.column, from.column + MOST_COLUMNS);
      const cell = (r, c) => this.cell(`${name}, ${down(r)}, ${across(c)}`, offset + r * columns + c, values[r * columns + c]);
      const body_ = shownRows.map((r) => [down(r), ...shownColumns.map((c) => cell(r, c))]);
      fill(body,
        this.pager("rows", from, "row", rows, MOST_ROWS, draw),
        this.pager("columns", from, "column", columns, MOST_COLUMNS, draw),
        el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${name}, table` },
          table(name, ["", ...shownColumns.map(across)], body_, { class: "weights" })));
    };
    node.addEventListener("toggle", () => (node.open ? draw() : fill(body)));
    node.redraw = () => {
      if (node.open && !body.contains(document.activeElement)) draw();
      else if (node.open) for (const input of body.querySelectorAll("input.weight")) this.refresh(input);
    };
    return node;
  }

  pager(what, from, key, total, most, draw) {
    if (total <= most) return null;
    const go = (step) => () => { from[key] += step; draw(); };
    const last = Math.min(total, from[key] + most) - 1;
    return el("p", { class: "row" },
      el("button", { type: "button", disabled: from[key] === 0, "aria-label": `earlier ${what}`, onclick: go(-most) }, "‹"),
      `${what} ${from[key]} to ${last} of ${total}`,
      el("button", { type: "button", disabled: last === total - 1, "aria-label": `later ${what}`, onclick: go(most) }, "›"));
  }

  cell(name, offset, value) {
    const input = el("input", {
      class: "weight", inputmode: "decimal", autocomplete: "off", "aria-label": name,
      onchange: (event) => this.type(event.target),
      onkeydown: (event) => {
        const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        event.target.value = String(this.side.model.weights[offset] + step);
        this.type(event.target);
      },
    });
    input.offset = offset;
    this.refresh(input);
    return input;
  }

  refresh(input) {
    const value = this.side.model.weights[input.offset], first = this.side.first[input.offset];
    input.value = String(Number(value.toPrecision(7)));
    input.classList.toggle("zero", value === 0);
    input.classList.toggle("edited", !Object.is(value, first));
    input.title = Object.is(value, first) ? "" : `edited; it was ${first}`;
  }

  type(input) {
    const value = Number(minusBack(input.value));
    const bad = input.value.trim() === "" || Number.isNaN(value);
    input.setAttribute("aria-invalid", String(bad));
    if (bad || Object.is(Math.fround(value), this.side.model.weights[input.offset])) return;
    this.change(() => this.side.edit(input.offset, value));
  }
}

const minusBack = (text) => text.replace("−", "-").replace(",", ".");

/** How the rows and the columns of a weight are called: two functions of an index. */
function labels(side, name, shape) {
  const { model } = side, D = model.config.head_size;
  const stream = (i) => side.columns?.[i] ?? String(i);
  const unit = (i) => side.units?.[i] ?? `unit ${i}`;
  const char = (i) => visible(model.chars[i]);
  const channel = (i) => (i >= D ? `head ${Math.floor(i / D)}: ${i % D}` : String(i));
  const numbered = (word) => (i) => `${word} ${i}`;
  if (name === "wte.weight" || name === "lm_head.weight") return [char, stream];
  if (name === "wpe.weight") return [numbered("place"), stream];
  if (name.includes(".ln_") || name.startsWith("ln_f")) return [() => "", stream];
  const one = shape.length === 1;
  if (/(query|key|value)/.test(name)) return one ? [() => "", channel] : [channel, stream];
  if (name.includes("proj")) return one ? [() => "", stream] : [stream, channel];
  if (name.includes("up")) return one ? [() => "", unit] : [unit, stream];
  return one ? [() => "", stream] : [stream, unit];
}
