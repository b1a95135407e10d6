/* Counts of a text beside a GPT: asked as data/ngrams.py asks them, mixed in as mixture.py does. */
"use strict";

const KINDS = { uint8: Uint8Array, int16: Int16Array, int32: Int32Array };

/** What is taken off a gram that counts 0, 1, 2, and 3 or more: ngrams.discounts. */
function discounts(counts) {
  const half = [0, 0.5, 1, 1.5], n = [0, 0, 0, 0, 0, 0];
  for (const count of counts) n[Math.min(count, 5)]++;
  if (!n.slice(1, 5).every(Boolean)) return half;
  const y = n[1] / (n[1] + 2 * n[2]);
  return half.map((most, c) => {
    const found = c && c - ((c + 1) * y * n[c + 1]) / n[c];
    return found > 0 ? found : most;
  });
}

/** The grams of a text by their length. A gram is known by its place in the table of its length,
 * where those that go on with one context lie side by side, sorted: data/counts.py. */
class Counts {
  /** header: {vocab_size, shares, orders: [{last: [type, n], followers, counts}, ...]}, of 1, 2, ...
   * characters; bytes: the values of all, little-endian, in that order. */
  constructor(header, bytes) {
    let offset = 0;
    const values = ([type, n]) => {
      const Kind = KINDS[type], end = offset + n * Kind.BYTES_PER_ELEMENT;
      const found = new Kind(bytes.slice(offset, end).buffer);
      offset = end;
      return found;
    };
    this.vocabSize = header.vocab_size;
    this.shares = header.shares; // of the counts, where they know a context of 0, 1, ... characters
    this.orders = header.orders.map((order) => {
      const last = values(order.last), followers = values(order.followers), counts = values(order.counts);
      const first = new Uint32Array(followers.length + 1); // where those of each context begin
      for (let i = 0; i < followers.length; i++) first[i + 1] = first[i] + followers[i];
      return { last, first, counts, off: discounts(counts) };
    });
  }

  /** The place of a gram: `context` of k characters, by its place, and then `id`; -1 if unseen. */
  find(k, context, id) {
    const { last, first } = this.orders[k];
    let low = first[context], high = first[context + 1];
    const end = high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (last[middle] < id) low = middle + 1;
      else high = middle;
    }
    return low < end && last[low] === id ? low : -1;
  }

  /** The place of the last k of `ids` among the grams of k characters; -1 if unseen. */
  context(ids, k) {
    let found = 0;
    for (let i = 0; i < k && found >= 0; i++) found = this.find(i, found, ids[ids.length - k + i]);
    return found;
  }

  /** What comes after ids, (V,), and how long a context of them is known. */
  after(ids) {
    const probs = new Float64Array(this.vocabSize).fill(1 / this.vocabSize);
    let known = 0;
    for (let k = 0; k < this.orders.length && k <= ids.length; k++) {
      const context = this.context(ids, k);
      if (context < 0) break;
      known = k;
      this.extend(probs, k, context);
    }
    return { probs, known };
  }

  /** From what comes after a shorter context to what comes after one of k characters, in place. */
  extend(probs, k, context) {
    const { last, first, counts, off } = this.orders[k], end = first[context + 1];
    let total = 0, taken = 0;
    for (let gram = first[context]; gram < end; gram++) {
      total += counts[gram];
      taken += off[Math.min(counts[gram], 3)];
    }
    if (!total) return; // all is left to the shorter one
    for (let id = 0; id < probs.length; id++) probs[id] *= taken / total;
    for (let gram = first[context]; gram < end; gram++) {
      probs[last[gram]] += (counts[gram] - off[Math.min(counts[gram], 3)]) / total;
    }
  }
}

/** What a model expects after `ids`, the window so far, where its net gives `logits`.
 *
 * Returns {net, mixed}, each (V,); where it has counts that are not off, also {counted (V,), known,
 * share}: how long a context the counts know, and their share of what is mixed. */
function opinions(model, logits, ids, off) {
  const net = probabilities(logits);
  if (!model.counts || off.has("counts")) return { net, mixed: net };
  const { probs: counted, known } = model.counts.after(ids), share = model.counts.shares[known];
  return { net, counted, known, share, mixed: net.map((p, id) => p + share * (counted[id] - p)) };
}

/** By how many bits the counts guessed better than the net; negative where they guessed worse. */
const better = (bits) => (bits?.counted === undefined ? 0 : bits.net - bits.counted);

/** How a text's characters were guessed: n of them, of how many the net or the counts were the
 * better guess, and the mean surprise in bits to each and to both. */
function tally(text) {
  const bits = { net: 0, counted: 0, mixed: 0 }, found = { n: 0, net: 0, counted: 0, bits };
  for (let place = 1; place < text.ids.length; place++) {
    const here = text.surprise(place);
    if (here?.counted === undefined) continue;
    found.n++;
    if (better(here)) found[better(here) > 0 ? "counted" : "net"]++;
    for (const by of Object.keys(bits)) bits[by] += here[by];
  }
  for (const by of Object.keys(bits)) bits[by] /= found.n;
  return found;
}
