/* Why a model predicted what it did: what each part adds to a logit, and each earlier character. */
"use strict";

/** The direction (C,) in the final residual stream, and the constant, that make up a score:
 * logit[target], minus logit[other], or minus the mean of all logits for other = "mean".
 * LayerNorm is taken with the statistics of `record`, so that the score is a plain sum. */
function direction(model, record, target, other = null) {
  const C = model.config.n_embd, V = model.config.vocab_size;
  const unembed = Float64Array.from({ length: C }, (_, i) => model.head[target * C + i]);
  for (let i = 0; i < C; i++) {
    if (other === "mean") {
      for (let v = 0; v < V; v++) unembed[i] -= model.head[v * C + i] / V;
    } else if (other !== null) unembed[i] -= model.head[other * C + i];
  }
  const weight = model.values("ln_f.weight"), bias = model.values("ln_f.bias");
  const { spread } = moments(record.x, record.run.round);
  const towards = unembed.map((value, i) => (value * weight[i]) / spread);
  const mean = towards.reduce((a, b) => a + b) / C; // LayerNorm takes the mean off
  const constant = bias ? dot(unembed, 0, bias, 0, C) : 0;
  return { towards: towards.map((value) => value - mean), constant };
}

/** What each part adds directly to a score (see `direction`); `sum` is all of it.
 *
 * Returns {embedding, heads: [[...]], ffwd: [...], biases, sum, score}: score is the one that the
 * model printed, so that the difference of both can be shown. Elhage et al. 2021, "A Mathematical
 * Framework for Transformer Circuits". */
function attribute(model, record, target, other = null) {
  const { n_layer, n_head, n_embd: C, head_size: D } = model.config;
  const { towards, constant } = direction(model, record, target, other);
  const along = (part) => dot(part, 0, towards, 0, C);
  const heads = [], ffwd = [];
  let biases = constant;
  for (let l = 0; l < n_layer; l++) {
    const { proj, down } = model.layers[l];
    const pulled = pull(proj[0], towards, model.width);
    heads.push(Array.from({ length: n_head }, (_, h) => dot(record.mixed[l], h * D, pulled, h * D, D)));
    ffwd.push(along(record.fed[l]));
    if (proj[1]) biases += along(proj[1]);
    if (down[1] && !record.run.off.has(`${l}.ffwd`)) biases += along(down[1]);
  }
  const embedding = along(record.embedded);
  const sum = [embedding, ...heads.flat(), ...ffwd, biases].reduce((a, b) => a + b);
  const rest = other === "mean" ? record.logits.reduce((a, b) => a + b) / record.logits.length
    : other === null ? 0 : record.logits[other];
  return { embedding, heads, ffwd, biases, sum, score: record.logits[target] - rest };
}

/** W^T towards: W (C, width), towards (C,) -> (width,). */
function pull(W, towards, width) {
  const out = new Float64Array(width);
  for (let i = 0; i < towards.length; i++) {
    for (let j = 0; j < width; j++) out[j] += W[i * width + j] * towards[i];
  }
  return out;
}

/** What each place of the window adds to a score through the heads, (t + 1,).
 *
 * head: [layer, head], or null for all heads together. Attention times what the value there is
 * worth; the sum over the places is what `attribute` says of the head. */
function bySource(model, record, target, other = null, head = null) {
  const { n_layer, n_head, head_size: D } = model.config, T = record.t + 1;
  const { towards } = direction(model, record, target, other);
  const out = new Float64Array(T);
  for (let l = 0; l < n_layer; l++) {
    if (head && head[0] !== l) continue;
    const pulled = pull(model.layers[l].proj[0], towards, model.width);
    for (let h = 0; h < n_head; h++) {
      if ((head && head[1] !== h) || record.run.off.has(`${l}.${h}`)) continue;
      for (let k = 0; k < T; k++) {
        const worth = dot(record.run.values[l], k * model.width + h * D, pulled, h * D, D);
        out[k] += record.patterns[l][h * T + k] * worth;
      }
    }
  }
  return out;
}

/** Asks a model about contexts; one goes on from what it shares with the one before. */
class Asked {
  constructor(model, Float = Float32Array) {
    this.run = new Run(model, Float);
    this.passed = []; // ids
    this.record = null;
  }

  /** Probability of the right answer minus that of the likeliest other one, as proof.py has it. */
  margin(context, answer) {
    let shared = 0;
    while (shared < context.length - 1 && this.passed[shared] === context[shared]) shared++;
    this.run.length = shared;
    for (const id of context.slice(shared)) this.record = this.run.step(id);
    this.passed = context;
    return marginOf(opinions(this.run.model, this.record.logits, context, this.run.off).mixed, answer);
  }
}

/** Of probs (V,), that of `answer` minus that of the likeliest other; -1 if it is not a number. */
function marginOf(probs, answer) {
  let rival = 0;
  probs.forEach((prob, id) => { if (id !== answer && !(prob <= rival)) rival = prob; });
  const margin = probs[answer] - rival;
  return Number.isNaN(margin) ? -1 : margin;
}
