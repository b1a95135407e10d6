/* One place of the text, as one model sees it: what it expects, where it looks, what made it so. */
"use strict";

class PlaceView {
  constructor(side, app) {
    this.side = side;
    this.app = app;
    this.target = "likeliest"; // or "actual", or an id
    this.other = "runner-up"; // or "mean", "none"
    this.totals = null; // what switching each part off changes, once it was measured
    this.written = null; // how the text goes on with all parts, and without those that are off
    this.box = el("section", { class: "side", "aria-label": `This place, as ${side.label} sees it` });
  }

  get head() {
    return this.app.headOf(this.side);
  }

  get chars() {
    return this.side.model.chars;
  }

  /** Ids [target, other] that the score is about, which is the net's. */
  pair(place) {
    const { text, model } = this.side, record = text.records[place];
    const [first, second] = ranked(record.logits), actual = text.ids[place + 1];
    const target = this.target === "actual" ? actual ?? first
      : this.target === "likeliest" ? first : Number(this.target);
    const rival = target === first ? second : first;
    if (this.other === "none" || model.chars.length < 2) return [target, null];
    return [target, this.other === "mean" ? "mean" : rival];
  }

  draw(place) {
    const record = this.side.text.whole(place);
    if (!record) return fill(this.box, el("h3", {}, this.side.label), el("p", {}, "Not computed yet."));
    if (this.totals && this.totals.place !== place) this.totals = null;
    fill(this.box,
      el("h3", {}, this.side.label),
      this.expectation(place),
      this.heads(place, record),
      this.parts(place, record),
      this.sources(place, record));
  }

  /** A sentence on this place, also for the live region. */
  sentence(place) {
    const { text } = this.side;
    if (!text.records[place]) return "";
    const probs = text.opinions(place).mixed, order = ranked(probs);
    const before = text.ids.slice(Math.max(0, place - 7), place + 1).map((id) => this.chars[id]);
    const first = `After ${visibleText(before)} it expects ${spoken(this.chars[order[0]])}, ${percent(probs[order[0]])}.`;
    const next = text.ids[place + 1];
    if (next === undefined) return first;
    const rank = order.indexOf(next) + 1, bits = text.surprise(place + 1);
    return `${first} What came was ${spoken(this.chars[next])}: ${percent(probs[next])}, `
      + `number ${rank} of ${order.length}, a surprise of ${bits.mixed.toFixed(2)} bits.`
      + (bits.counted === undefined ? "" : ` ${winner(bits)}`);
  }

  expectation(place) {
    const { text, model } = this.side, found = text.opinions(place), next = text.ids[place + 1];
    const rows = ranked(found.mixed).slice(0, 5).map((id) => [
      el("span", {}, glyph(this.chars[id]), id === next ? " ← came" : ""),
      percent(found.mixed[id]), share(found.mixed[id]),
    ]);
    const seen = text.ids.slice(text.starts[place], place + 1);
    return el("div", {},
      el("p", { class: "sentence" }, this.sentence(place)),
      found.counted ? opinionsTable(this.chars, found, next)
        : table("The likeliest next characters", ["character", "probability", ""], rows),
      found.counted ? el("p", {}, mixing(this.chars, found, seen)) : null,
      model.counts ? this.toggle("mix the counts in", "counts") : null,
      tallyTable(text));
  }

  /** Every head as a strip: the window from left to right, darker where it looks more. */
  heads(place, record) {
    const { n_layer, n_head } = this.side.model.config;
    const grid = el("div", { class: "heads", role: "group", "aria-label": "Heads" });
    grid.style.setProperty("--heads", Math.min(n_head, 8));
    for (let l = 0; l < n_layer; l++) {
      for (let h = 0; h < n_head; h++) grid.append(this.strip(place, record, [l, h]));
    }
    const all = el("button", {
      type: "button", class: "head all", "aria-pressed": String(!this.head),
      onclick: () => this.app.chooseHead(null),
    }, "all heads together");
    return el("div", {}, el("h4", {}, "Where each head looks"), grid, all, this.looks(place, record));
  }

  strip(place, record, head) {
    const { app, side } = this, row = attention(side, record, head);
    const name = `${head[0]}.${head[1]}`, chosen = this.head?.join(".") === name;
    const most = row.indexOf(Math.max(...row)), start = side.text.starts[place];
    const char = spoken(this.chars[side.text.ids[start + most]]);
    const label = `head ${name} looks most at ${char}, ${record.t - most} back, ${percent(row[most])}`
      + (side.off.has(name) ? ", switched off" : "");
    const canvas = el("canvas", { width: 96, height: 10, "aria-hidden": "true" });
    drawStrip(canvas, row);
    return el("button", {
      type: "button", class: "head", "aria-pressed": String(chosen), "aria-label": label, title: label,
      onclick: () => app.chooseHead(chosen ? null : head),
    }, el("span", { class: side.off.has(name) ? "gone" : "" }, name), canvas);
  }

  /** The chosen head in numbers. */
  looks(place, record) {
    const row = attention(this.side, record, this.head), start = this.side.text.starts[place];
    const rows = Array.from(ranked(row)).slice(0, 5).map((at) => [
      el("span", {}, glyph(this.chars[this.side.text.ids[start + at]]), at === record.t ? " itself" : ` ${record.t - at} back`),
      percent(row[at]), share(row[at]),
    ]);
    const name = this.head ? `Head ${this.head.join(".")} looks at` : "All heads look at, on average";
    return table(name, ["character", "share", ""], rows);
  }

  /** What each part adds to the score, with the sum, and the switch of each part. */
  parts(place, record) {
    const { side } = this, pair = this.pair(place), found = attribute(side.model, record, ...pair);
    const named = [["embedding", null, found.embedding]];
    found.heads.forEach((layer, l) => {
      layer.forEach((value, h) => named.push([`head ${l}.${h}`, `${l}.${h}`, value]));
      named.push([`feed-forward ${l}`, `${l}.ffwd`, found.ffwd[l]]);
    });
    named.push(["biases", null, found.biases]);
    const most = named.reduce((a, row) => Math.max(a, Math.abs(row[2])), 0);
    const rows = named.map(([name, part, value]) => [
      part ? this.toggle(name, part) : name,
      signed(value), bar(value, most),
      part && this.totals ? signed(this.totals.changes.get(part)) : "",
    ]);
    const apart = found.sum - found.score;
    return el("div", {},
      el("h4", {}, this.side.model.counts ? "What made the net say so" : "What made it so"),
      this.questions(pair),
      table("What each part adds directly to the score. Untick a part to switch it off.",
        ["part", "adds", "", "in all"], rows, { class: "parts" }),
      el("p", {}, `Sum ${signed(found.sum)}, the model's score ${signed(found.score)}, difference ${signed(apart)}.`),
      this.measure(place), this.continuations(place));
  }

  toggle(name, part) {
    const box = el("input", { type: "checkbox", onchange: () => this.app.toggle(this.side, part) });
    box.checked = !this.side.off.has(part);
    return el("label", { class: "toggle" }, box, name);
  }

  questions([target, other]) {
    const letters = this.chars.map((char, id) => [String(id), `${visible(char)}`]);
    const name = this.side.index;
    const change = (field) => (event) => { this[field] = event.target.value; this.totals = null; this.app.refresh(); };
    const said = other === "mean" ? "the mean of all characters" : other === null ? "nothing" : visible(this.chars[other]);
    return el("div", { class: "questions" },
      el("label", {}, "Score of ", choice({ id: `target-${name}`, onchange: change("target") },
        [["likeliest", "the likeliest"], ["actual", "what came"], ...letters], this.target)),
      el("label", {}, "against ", choice({ id: `other-${name}`, onchange: change("other") },
        [["runner-up", "the best other"], ["mean", "the mean of all"], ["none", "nothing"]], this.other)),
      el("span", {}, "that is ", glyph(this.chars[target]), ` against ${said}.`));
  }

  /** The button that switches every part off in turn, and says what that changes in all. */
  measure(place) {
    const note = "“In all” is how much the score falls when the part is off and all that reads it computes anew. "
      + "It differs from what the part adds directly, because later parts react.";
    return el("div", {},
      el("button", { type: "button", onclick: () => this.app.measure(this, place) }, "Measure each part in all"),
      el("p", { class: "note" }, note));
  }

  /** Steps that measure what switching off each part does to the score at `place`. */
  *measuring(place) {
    const { side } = this, { model, text } = side, pair = this.pair(place);
    const score = (record) => record.logits[pair[0]] - (pair[1] === null ? 0
      : pair[1] === "mean" ? record.logits.reduce((a, b) => a + b) / record.logits.length : record.logits[pair[1]]);
    const context = text.ids.slice(text.starts[place], place + 1), whole = score(text.records[place]);
    const changes = new Map();
    for (let l = 0; l < model.config.n_layer; l++) {
      for (const part of [...Array(model.config.n_head).keys(), "ffwd"].map((kind) => `${l}.${kind}`)) {
        const run = new Run(model, Float32Array, new Set([...side.off, part]));
        let record;
        for (const id of context) { record = run.step(id); yield; }
        changes.set(part, whole - score(record));
      }
    }
    this.totals = { place, changes };
  }

  /** Steps that write on from `place`, with all parts and without those that are off. */
  *continuing(place) {
    const { side } = this, { ids } = side.text;
    const context = ids.slice(0, place + 1).slice(-side.model.config.block_size), written = [];
    for (const off of [new Set(), side.off]) {
      const text = new Text(side.model, { off });
      text.read(context);
      for (let n = 0; n < 40; n++) {
        while (text.step()) yield;
        text.append(choose(text.scores(), { temperature: 0 }));
      }
      written.push(text.ids.slice(context.length).map((id) => side.model.chars[id]).join(""));
    }
    this.written = { place, parts: [...side.off].join(", "), whole: written[0], without: written[1] };
  }

  continuations(place) {
    if (this.written?.place !== place || !this.side.off.size) return null;
    const { parts, whole, without } = this.written;
    return el("dl", { class: "continuations" },
      el("dt", {}, "From here it writes, at temperature 0, with all parts"), el("dd", {}, whole),
      el("dt", {}, `without ${parts}`), el("dd", {}, without));
  }

  /** How much each earlier character added to the score, through the chosen head or all. */
  sources(place, record) {
    const { side, head } = this, added = bySource(side.model, record, ...this.pair(place), head);
    const start = side.text.starts[place], most = added.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    const order = ranked(added.map(Math.abs)).slice(0, 6);
    const rows = order.map((at) => [
      el("span", {}, glyph(this.chars[side.text.ids[start + at]]), at === record.t ? " itself" : ` ${record.t - at} back`),
      signed(added[at]), bar(added[at], most),
    ]);
    const through = head ? `head ${head.join(".")}` : "all heads";
    return el("div", {},
      el("h4", {}, "Which characters made it so"),
      table(`What each character adds directly to the score, through ${through}`, ["character", "adds", ""], rows));
  }
}

/** Draw shares of 1 from left to right; where there are more than pixels, the largest shows. */
function drawStrip(canvas, row) {
  const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  context.fillStyle = style.getPropertyValue("--ink");
  const step = canvas.width / row.length;
  for (let x = 0; x < canvas.width; x++) {
    const from = Math.floor(x / step), to = Math.max(from + 1, Math.ceil((x + 1) / step));
    context.globalAlpha = Math.sqrt(Math.min(1, Math.max(0, ...row.subarray(from, to))));
    context.fillRect(x, 0, 1, canvas.height);
  }
}
