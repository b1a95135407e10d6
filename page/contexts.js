/* What a hand-set model is to answer: a tile for each context, and ways to break the proof. */
"use strict";

const CLOSE = 1e-5; // a margin below this is rounding

class ContextsView {
  constructor(side, app) {
    this.side = side;
    this.app = app;
    this.contexts = side.task.contexts.map((context) => side.ids(Array.from(context)));
    this.answers = side.ids(Array.from(side.task.answers));
    this.found = this.contexts.map(() => 1);
    this.Float = Float32Array;
    this.verdict = el("p", { class: "verdict", role: "status" });
    this.sentence = el("p", { class: "note", role: "status" });
    this.tiles = el("div", { class: "tiles", role: "group", "aria-label": "Contexts" });
    const types = choice({ onchange: (event) => {
      this.Float = event.target.value === "float32" ? Float32Array : Float64Array;
      this.app.check(this);
    } }, [["float32", "float32, as PyTorch runs it"], ["float64", "float64"]], "float32");
    this.box = el("section", { class: "side", "aria-label": `Contexts of ${side.label}` },
      el("h3", {}, side.label),
      el("p", { class: "note" }, side.task.proved),
      this.verdict,
      el("p", {}, el("label", {}, "Computed in ", types)),
      this.breaks(), this.sentence, this.tiles);
  }

  /** Buttons that each break something. Each starts from the weights as they were. */
  breaks() {
    if (!this.side.breaks.length) return null;
    const buttons = this.side.breaks.map(({ title, sentence, edits }) => el("button", {
      type: "button",
      onclick: () => {
        this.side.reset();
        for (const [name, at, value] of edits) {
          this.side.edit(this.side.model.tensors.get(name).offset + at, value);
        }
        this.sentence.textContent = sentence;
        this.app.weightsChanged(this.side, true);
      },
    }, title));
    const mend = el("button", { type: "button", onclick: () => {
      this.side.reset();
      this.app.weightsChanged(this.side);
    } }, "Mend it");
    return el("div", { class: "breaks", role: "group", "aria-label": "Break it" },
      el("h4", {}, "Break it"), ...buttons, mend);
  }

  /** Steps that ask the model about every context. */
  *checking() {
    const asked = new Asked(this.side.model, this.Float);
    for (let i = 0; i < this.contexts.length; i++) {
      this.found[i] = asked.margin(this.contexts[i], this.answers[i]);
      yield;
    }
    this.checked = true;
    this.draw();
  }

  draw() {
    const { task } = this.side, wrong = this.found.findIndex((margin) => !(margin > 0));
    const right = this.found.filter((margin) => margin > 0).length, all = this.found.length;
    const worst = this.found.reduce((a, b) => Math.min(a, b), Infinity);
    const close = this.found.filter((margin) => Math.abs(margin) < CLOSE).length;
    const sample = all < task.total ? `, a sample of ${task.totalText}` : "";
    fill(this.verdict,
      el("strong", { class: right === all ? "good" : "bad" }, `${right === all ? "✓" : "✗"} ${right} of ${all} right`),
      `${sample}, worst margin ${signed(worst)}`,
      close ? ` (${close} too close to call)` : "",
      wrong >= 0 ? `; the first wrong one is ${visibleText(Array.from(task.contexts[wrong]))}` : "",
      ".");
    fill(this.tiles, ...task.contexts.map((_, i) => this.tile(i)));
  }

  tile(i) {
    const { task, model } = this.side, margin = this.found[i], right = margin > 0;
    const close = Math.abs(margin) < CLOSE, mark = close ? "≈" : right ? "✓" : "✗";
    const context = visibleText(Array.from(task.contexts[i])), answer = visibleText([model.chars[this.answers[i]]]);
    const said = right ? "right" : close ? "too close to call" : "wrong";
    return el("button", {
      type: "button", class: `tile ${right ? "right" : "wrong"}`,
      "aria-label": `after ${context} comes ${answer}: ${said}, margin ${signed(margin)}`,
      onclick: () => this.app.lookInto(task.contexts[i]),
    }, el("span", { class: "context" }, `${context} → ${answer}`), el("span", { class: "margin" }, `${mark} ${signed(margin)}`));
  }
}
