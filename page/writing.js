/* A text, the model's record of each of its places, and the choice of what comes next. */
"use strict";

const MOST_RUNS = 16; // windows of a text that are kept whole

/** Random numbers from 0 to 1 that are the same for the same seed (mulberry32, Tommy Ettinger). */
function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Ids by falling score, the first of equal ones first, as a stable sort has them. */
function ranked(scores) {
  return Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
}

/** The distribution to draw from, (V,): as generate.choose has it, temperature above 0. */
function narrowed(logits, { temperature, topK, topP }) {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const scores = Float64Array.from(logits, (score) => (score - most) / Math.max(temperature, 1e-6));
  const order = ranked(scores);
  if (topK) for (const id of order.slice(topK)) scores[id] = -Infinity;
  const probs = softmax(scores);
  if (topP && topP < 1) {
    let before = 0;
    for (const id of order) {
      const prob = probs[id];
      if (before >= topP) probs[id] = 0;
      before += prob;
    }
    for (let i = 0, rest = probs.reduce((a, b) => a + b); i < probs.length; i++) probs[i] /= rest;
  }
  return probs;
}

/** The next id: the first of the likeliest at temperature 0, else drawn with `random`. */
function choose(logits, options, random) {
  if (!options.temperature) return ranked(logits)[0];
  const probs = narrowed(logits, options);
  let left = random(), last = 0;
  for (let id = 0; id < probs.length; id++) {
    if (!probs[id]) continue;
    last = id;
    if ((left -= probs[id]) < 0) break;
  }
  return last;
}

/** A text that a model reads and writes on, with its windows as generate.py has them.
 *
 * `ids` and `records` go by place. The record of a place is the one that predicted the next
 * character, with the window of that moment: `starts[place]` is where the window began.
 */
class Text {
  /** window: "half" cuts a full context to its last half, "slide" moves it on by one. */
  constructor(model, { window = "half", Float = Float32Array, off = new Set() } = {}) {
    const size = model.config.block_size;
    Object.assign(this, { model, Float, off, size, ids: [], records: [], starts: [] });
    this.kept = window === "slide" ? size : Math.floor((size + 1) / 2);
    this.start = 0;
    this.run = null;
    this.queue = []; // places still to pass through, each with the start of its window
    this.runs = []; // windows whose keys and values are kept, the latest last
  }

  /** Add ids. The last block_size of them are one window, those before are windows of their own. */
  read(ids) {
    const first = this.ids.length;
    this.ids.push(...ids);
    if (first && this.ids.length - this.start <= this.size) return this.enqueue(first);
    this.start = Math.max(0, this.ids.length - this.size);
    for (let start = this.start, end = this.ids.length; end > first; end = start, start -= this.size) {
      const places = [];
      for (let place = Math.max(0, start); place < end; place++) {
        places.push(this.planned(place, Math.max(0, start), place >= first));
      }
      this.queue.unshift(...places);
    }
  }

  /** Add one id, and cut the context when it is too long. */
  append(id) {
    this.ids.push(id);
    if (this.ids.length - this.start <= this.size) return this.enqueue(this.ids.length - 1);
    this.start = this.ids.length - this.kept;
    for (let place = this.start; place < this.ids.length; place++) {
      this.queue.push(this.planned(place, this.start, place === this.ids.length - 1));
    }
  }

  enqueue(first) {
    for (let place = first; place < this.ids.length; place++) {
      this.queue.push(this.planned(place, this.start, true));
    }
  }

  /** A place to pass through in the window from `start` on; kept: its record is the one to keep. */
  planned(place, start, kept) {
    if (kept) this.starts[place] = start;
    return { place, start, kept };
  }

  /** Read ids whose windows began at `starts`: those of a text that was written before. */
  replay(ids, starts) {
    this.ids = ids.slice();
    ids.forEach((_, place) => {
      const start = starts[place];
      if (!place || start !== starts[place - 1]) {
        for (let back = start; back < place; back++) this.queue.push(this.planned(back, start, false));
      }
      this.queue.push(this.planned(place, start, true));
    });
    this.start = starts[ids.length - 1] ?? 0;
  }

  /** Pass one place through the model. Returns whether there was one. */
  step() {
    const next = this.queue.shift();
    if (!next) return false;
    if (!this.run || next.place === next.start) this.begin();
    const record = this.run.step(this.ids[next.place]);
    if (next.kept) this.records[next.place] = record;
    return true;
  }

  /** A new window. The keys and values of windows long past are let go: they are large. */
  begin() {
    this.run = new Run(this.model, this.Float, this.off);
    if (this.runs.push(this.run) > MOST_RUNS) this.runs.shift().forget();
  }

  /** The record of a place with the keys and values of its window, computed again if need be. */
  whole(place) {
    const record = this.records[place];
    if (!record?.run.forgotten) return record;
    const run = new Run(this.model, this.Float, record.run.off);
    for (const id of this.ids.slice(this.starts[place], place + 1)) this.records[place] = run.step(id);
    return this.records[place];
  }

  /** What the net, the counts and both expect after a place: see `opinions`. */
  opinions(place) {
    const { logits } = this.records[place];
    return opinions(this.model, logits, this.ids.slice(this.starts[place], place + 1), this.off);
  }

  /** The scores of what follows the last place; all of the text is passed through first. */
  scores() {
    while (this.step());
    const place = this.ids.length - 1, { counted, mixed } = this.opinions(place);
    return counted ? mixed.map(Math.log) : this.records[place].logits;
  }

  /** Write n ids on, and return them. */
  write(n, options, random) {
    const written = [];
    for (let i = 0; i < n; i++) {
      const id = choose(this.scores(), options, random);
      written.push(id);
      this.append(id);
    }
    while (this.step());
    return written;
  }

  /** How surprising the character at `place` was, in bits; null where nothing predicted it.
   *
   * Returns {net, mixed}, with counts also {counted}: to the net, to the counts, and to both. */
  surprise(place) {
    const record = this.records[place - 1], id = this.ids[place];
    if (!record || id === undefined) return null;
    if (!record.surprise) { // the whole text is shaded by it, often
      const { net, counted, mixed } = this.opinions(place - 1), bits = (probs) => -Math.log2(probs[id]);
      record.surprise = { net: bits(net), mixed: bits(mixed), ...(counted && { counted: bits(counted) }) };
    }
    return record.surprise;
  }
}
