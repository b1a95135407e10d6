/* A GPT on typed arrays, one place at a time, as model.py and generate.py have it.
 *
 * Nothing here knows of a page, so that a test can run it. Names and shapes are those of
 * model.py: C channels, H heads of size D, F feed-forward size, V vocabulary, T places.
 * `Float` is Float32Array or Float64Array: how precisely activations are kept. Sums are doubles.
 */
"use strict";

const EPS = 1e-5; // of LayerNorm

/** out[r] = W[r] . x, plus bias[r] if there is one: W (rows, x.length), four rows at a time. */
function linear(W, bias, x, out) {
  const rows = out.length, columns = x.length;
  let r = 0;
  for (; r + 4 <= rows; r += 4) {
    let a = r * columns, b = a + columns, c = b + columns, d = c + columns;
    let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (let i = 0; i < columns; i++) {
      const xi = x[i];
      s0 += W[a++] * xi; s1 += W[b++] * xi; s2 += W[c++] * xi; s3 += W[d++] * xi;
    }
    out[r] = s0; out[r + 1] = s1; out[r + 2] = s2; out[r + 3] = s3;
  }
  for (; r < rows; r++) out[r] = dot(W, r * columns, x, 0, columns);
  if (bias) for (let i = 0; i < rows; i++) out[i] += bias[i];
  return out;
}

/** Sum of a[i + k] * b[j + k] for k < n. */
function dot(a, i, b, j, n) {
  let sum = 0;
  for (let k = 0; k < n; k++) sum += a[i + k] * b[j + k];
  return sum;
}

/** LayerNorm of x (C,); `round` is Math.fround where activations are float32, as PyTorch's are. */
function layerNorm(x, weight, bias, round) {
  const { mean, spread } = moments(x, round);
  const out = new x.constructor(x.length);
  for (let i = 0; i < x.length; i++) {
    out[i] = (round(x[i] - mean) / spread) * weight[i] + (bias ? bias[i] : 0);
  }
  return out;
}

/** Mean, and sqrt(variance + EPS), of x (C,). */
function moments(x, round) {
  let sum = 0, squares = 0;
  for (const value of x) sum += value;
  const mean = round(sum / x.length);
  for (const value of x) squares += (value - mean) ** 2;
  return { mean, spread: Math.sqrt(squares / x.length + EPS) };
}

/** Softmax of scores, in place; what is not finite makes all of it NaN, as in PyTorch. */
function softmax(scores) {
  let most = -Infinity, sum = 0;
  for (const score of scores) if (!(score <= most)) most = score;
  for (let i = 0; i < scores.length; i++) sum += scores[i] = Math.exp(scores[i] - most);
  for (let i = 0; i < scores.length; i++) scores[i] /= sum;
  return scores;
}

/** Probabilities (V,) of logits (V,), as doubles. */
const probabilities = (logits) => softmax(Float64Array.from(logits));

/** Error function: its series, whose terms are all of one sign; beyond 6 it is 1 to the last bit. */
function erf(x) {
  if (!(Math.abs(x) < 6)) return Math.sign(x); // and NaN stays NaN
  let term = 2 / Math.sqrt(Math.PI) * x * Math.exp(-x * x), sum = term;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= 2 * x * x / (2 * n + 1);
    sum += term;
  }
  return sum;
}

const ACTIVATIONS = {
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  relu2: (x) => (x <= 0 ? 0 : x * x), // and NaN stays NaN
  gelu_tanh: (x) =>
    0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x))),
};

/** Cosine and sine of the rotary angles, (T, D / 2) each, rounded to float32 as model.py does. */
function turns(T, D) {
  const half = D / 2, cos = new Float32Array(T * half), sin = new Float32Array(T * half);
  for (let i = 0; i < T * half; i++) {
    const angle = Math.floor(i / half) * 10000 ** ((-2 * (i % half)) / D);
    cos[i] = Math.cos(angle);
    sin[i] = Math.sin(angle);
  }
  return { cos, sin };
}

/** What `pack.py` wrote: the structure of a GPT and its weights by name, editable in place. */
class Model {
  /** header: {config, chars, shifted, tensors: [[name, shape], ...]}; weights: all, in that order. */
  constructor(header, weights) {
    this.config = header.config;
    this.chars = Array.from(header.chars); // code points, in id order
    this.ids = new Map(this.chars.map((char, id) => [char, id]));
    this.tensors = new Map();
    let offset = 0;
    for (const [name, shape] of header.tensors) {
      const size = shape.reduce((product, n) => product * n, 1);
      this.tensors.set(name, { shape, offset, values: weights.subarray(offset, offset + size) });
      offset += size;
    }
    this.weights = weights;
    this.counts = null; // Counts of the text that it learned from, where they are mixed in
    const { block_size, n_layer, n_head, head_size } = this.config;
    this.width = n_head * head_size; // of all heads together
    this.shifted = header.shifted; // channels that token shift moves
    this.layers = Array.from({ length: n_layer }, (_, l) => this.layer(`blocks.${l}`));
    this.wte = this.values("wte.weight");
    this.wpe = this.values("wpe.weight");
    this.head = this.values("lm_head.weight") ?? this.wte; // tied weights stand there once
    this.turns = this.config.position === "rotary" ? turns(block_size, head_size) : null;
    this.act = ACTIVATIONS[this.config.activation];
  }

  values(name) {
    return this.tensors.get(name)?.values ?? null;
  }

  /** The weights of one block. Queries, keys and values of all heads lie one after the other. */
  layer(name) {
    const both = (part) => [this.values(`${name}.${part}.weight`), this.values(`${name}.${part}.bias`)];
    const first = (kind) => {
      const tensor = this.tensors.get(`${name}.attn.heads.0.query.${kind}`);
      if (!tensor) return null;
      const size = 3 * this.config.n_head * tensor.values.length;
      return this.weights.subarray(tensor.offset, tensor.offset + size);
    };
    return {
      ln1: both("ln_1"), qkv: [first("weight"), first("bias")], proj: both("attn.proj"),
      ln2: both("ln_2"), up: both("ffwd.up"), down: both("ffwd.down"),
    };
  }
}

/** One context as the model goes through it: keys and values so far, like generate.Cache. */
class Run {
  /** off: names of parts that add nothing, such as "0.2" (layer 0, head 2) or "0.ffwd". */
  constructor(model, Float, off = new Set()) {
    const { block_size, n_layer } = model.config;
    this.model = model;
    this.Float = Float;
    this.round = Float === Float32Array ? Math.fround : (x) => x;
    this.off = off;
    this.length = 0; // set it back to go on from an earlier place
    const make = (n) => Array.from({ length: n_layer }, () => new Float(block_size * n));
    this.keys = make(model.width); // each (block_size, H * D)
    this.values = make(model.width);
    this.before = [make(model.shifted), make(model.shifted)]; // what token shift hands on
  }

  /** Let go of what is large. The records stay. */
  forget() {
    this.forgotten = true;
    this.keys = this.values = this.before = null;
  }

  /** Pass the next id through the model. Returns what an explanation of this place needs. */
  step(id) {
    const { model, Float, length: t } = this;
    const { n_layer, n_head, n_embd: C, ffn_size, vocab_size } = model.config;
    if (t >= model.config.block_size) throw new RangeError("the context is full");
    const x = new Float(C);
    for (let i = 0; i < C; i++) x[i] = model.wte[id * C + i] + (model.wpe ? model.wpe[t * C + i] : 0);
    const record = {
      t, id,
      embedded: x.slice(),
      patterns: [], // of each layer (H, t + 1)
      mixed: [], // of each layer (H * D): what the heads read, before proj
      fed: [], // of each layer (C): what the feed-forward adds, but for its bias
      run: this,
    };
    this.length = t + 1;
    for (let l = 0; l < n_layer; l++) {
      const layer = model.layers[l];
      const read = this.shift(layerNorm(x, ...layer.ln1, this.round), 0, l, t);
      const mixed = this.attend(linear(...layer.qkv, read, new Float(3 * model.width)), l, t, record);
      for (let h = 0; h < n_head; h++) {
        if (this.off.has(`${l}.${h}`)) {
          mixed.fill(0, h * model.config.head_size, (h + 1) * model.config.head_size);
        }
      }
      record.mixed.push(mixed);
      const attended = linear(...layer.proj, mixed, new Float(C));
      for (let i = 0; i < C; i++) x[i] += attended[i];

      const second = this.shift(layerNorm(x, ...layer.ln2, this.round), 1, l, t);
      const units = linear(...layer.up, second, new Float(ffn_size));
      for (let i = 0; i < ffn_size; i++) units[i] = model.act(units[i]);
      const silent = this.off.has(`${l}.ffwd`);
      const fed = silent ? new Float(C) : linear(layer.down[0], null, units, new Float(C));
      record.fed.push(fed);
      const bias = silent ? null : layer.down[1];
      for (let i = 0; i < C; i++) x[i] += this.round(fed[i] + (bias ? bias[i] : 0));
    }
    record.x = x;
    const normed = layerNorm(x, model.values("ln_f.weight"), model.values("ln_f.bias"), this.round);
    record.logits = linear(model.head, null, normed, new Float(vocab_size));
    return record;
  }

  /** Token shift: the first channels of x come from the place before; zero at the first place. */
  shift(x, branch, l, t) {
    const n = this.model.shifted, kept = this.before[branch][l];
    if (!n) return x;
    kept.set(x.subarray(0, n), t * n);
    if (t) x.set(kept.subarray((t - 1) * n, t * n));
    else x.fill(0, 0, n);
    return x;
  }

  /** Turn channel pairs (j, j + D/2) of each head in x, from `offset` on, by the angle of place t. */
  rotate(x, offset, t) {
    const { turns, width } = this.model;
    if (!turns) return;
    const { cos, sin } = turns, D = this.model.config.head_size, half = D / 2, row = t * half;
    for (let h = offset; h < offset + width; h += D) {
      for (let j = 0; j < half; j++) {
        const low = x[h + j], high = x[h + j + half];
        x[h + j] = low * cos[row + j] - high * sin[row + j];
        x[h + j + half] = high * cos[row + j] + low * sin[row + j];
      }
    }
  }

  /** Causal attention of place t: qkv (3 * H * D) -> what the heads read, (H * D). */
  attend(qkv, l, t, record) {
    const { width } = this.model, { n_head, head_size: D } = this.model.config;
    const keys = this.keys[l], values = this.values[l], T = t + 1, root = Math.sqrt(D);
    this.rotate(qkv, 0, t);
    this.rotate(qkv, width, t);
    for (let i = 0; i < width; i++) qkv[i] /= root;
    keys.set(qkv.subarray(width, 2 * width), t * width);
    values.set(qkv.subarray(2 * width), t * width);
    const pattern = new this.Float(n_head * T), mixed = new this.Float(width);
    const sums = new Float64Array(D);
    for (let h = 0; h < n_head; h++) {
      const row = pattern.subarray(h * T, (h + 1) * T);
      for (let k = 0; k < T; k++) row[k] = dot(qkv, h * D, keys, k * width + h * D, D);
      softmax(row);
      sums.fill(0);
      for (let k = 0; k < T; k++) {
        const share = row[k], at = k * width + h * D;
        for (let j = 0; j < D; j++) sums[j] += share * values[at + j];
      }
      mixed.set(sums, h * D);
    }
    record.patterns.push(pattern);
    return mixed;
  }
}
