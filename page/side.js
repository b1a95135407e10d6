/* One model on the page: its weights, what was changed in them, and its records of the text. */
"use strict";

/** The bytes of the counts that an element holds; null where there is none. */
async function countsOf(node) {
  if (!node) return null;
  const bytes = await inflated(bytesOf(node.textContent.trim()));
  node.remove();
  return bytes;
}

class Side {
  /** given: what look.py wrote about one model; weights: the element that holds its weights;
   * counts: the bytes of its counts, or null. */
  constructor(given, weights, counts, index) {
    Object.assign(this, given);
    this.index = index;
    this.model = new Model(given.packed, weightsOf(weights.textContent.trim(), given.packed.dtype));
    weights.remove();
    if (counts) this.model.counts = new Counts(given.counts, counts);
    this.first = this.model.weights.slice(); // to reset to
    this.edits = []; // [offset, value before], the latest last
    this.off = new Set();
    this.check = this.agreement();
    this.restart("half");
  }

  /** What the badge adds. */
  get said() {
    return this.model.counts ? ", mixed with its counts" : "";
  }

  /** An empty text. */
  restart(window) {
    this.window = window;
    this.text = new Text(this.model, { window, off: this.off });
  }

  /** Read the text again, with its windows as they were: weights or parts have changed. */
  reread() {
    const { ids, starts } = this.text;
    this.restart(this.window);
    this.text.replay(ids, starts);
  }

  /** The ids of characters; null where one is unknown. */
  ids(chars) {
    const ids = chars.map((char) => this.model.ids.get(char));
    return ids.includes(undefined) ? null : ids;
  }

  /** Set one weight. */
  edit(offset, value) {
    this.edits.push([offset, this.model.weights[offset]]);
    this.model.weights[offset] = value;
  }

  undo() {
    const last = this.edits.pop();
    if (last) this.model.weights[last[0]] = last[1];
  }

  /** The same weights as at the start. */
  reset() {
    this.model.weights.set(this.first);
    this.edits = [];
  }

  /** How far this engine is from what PyTorch computed: logits, attention, what heads add, and the
   * probabilities of net and counts mixed, as logarithms.
   *
   * Returns {off, allowed}: the largest difference, relative to the largest value where that is
   * above 1, and how large it may be. */
  agreement() {
    const { checks } = this, run = new Run(this.model, Float32Array);
    const ids = Array.from(checks.text).map((char) => this.model.ids.get(char));
    let off = 0, record;
    const compare = (found, expected) => {
      let most = 1, worst = 0;
      for (let i = 0; i < expected.length; i++) {
        most = Math.max(most, Math.abs(expected[i]));
        const apart = Math.abs(found[i] - expected[i]);
        if (!(apart <= worst)) worst = apart; // NaN is the worst
      }
      if (!(worst / most <= off)) off = worst / most;
    };
    const V = this.model.config.vocab_size, logits = weightsOf(checks.logits, "float32");
    const mixed = this.model.counts && weightsOf(checks.mixed, "float32");
    ids.forEach((id, place) => {
      record = run.step(id);
      const [from, to] = [place * V, (place + 1) * V];
      compare(record.logits, logits.subarray(from, to));
      if (!mixed) return;
      const found = opinions(this.model, record.logits, ids.slice(0, place + 1), this.off);
      compare(found.mixed.map(Math.log), mixed.subarray(from, to));
    });
    compare(record.patterns.flatMap((row) => Array.from(row)), weightsOf(checks.pattern, "float32"));
    const { heads } = attribute(this.model, record, checks.target, checks.other);
    compare(heads.flat(), weightsOf(checks.heads, "float32"));
    return { off, allowed: 1e-4 };
  }
}
