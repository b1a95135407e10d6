/* The text: one place for each character, shaded by what one wants to see. */
"use strict";

const SHADES = [
  ["looks", "what it looks at"],
  ["seen", "what looks at it"],
  ["adds", "what adds to the score"],
  ["surprise", "how surprising each one was"],
  ["counts", "counts against net"],
  ["none", "nothing"],
];

class TextView {
  /** box: the element that is the text; app is told which place is chosen. */
  constructor(box, app) {
    this.box = box;
    this.app = app;
    this.places = [];
    box.addEventListener("pointerover", (event) => this.point(event, false));
    box.addEventListener("click", (event) => this.point(event, true));
    box.addEventListener("keydown", (event) => this.key(event));
  }

  clear() {
    this.places = [];
    fill(this.box);
  }

  /** Show the characters that the text has and the page has not yet. */
  grow(chars) {
    const first = this.places.length;
    for (let place = first; place < chars.length; place++) {
      const char = chars[place], id = `place-${place}`;
      const shown = char === " " ? " " : visibleAfter(char, chars[place - 1]);
      const node = el("span", { id, role: "option", class: "place", "aria-label": spoken(char) }, shown);
      Object.assign(node, { place, char, kind: shown.length > 2 ? "place alone" : "place" });
      node.className = node.kind;
      this.places.push(node);
      this.box.append(node, char === "\n" ? el("br") : "");
    }
    for (const node of this.places.slice(first)) {
      if (node.char < "\u0300" || node.getBoundingClientRect().width) continue;
      node.className = node.kind = "place narrow"; // it is drawn as a part of the letter before
    }
    this.follow();
  }

  /** Scroll to the end, once a frame: each time, all of the text is laid out. */
  follow() {
    if (this.following) return;
    this.following = requestAnimationFrame(() => {
      this.following = null;
      this.box.scrollTop = this.box.scrollHeight;
    });
  }

  point(event, pinned) {
    const place = event.target.closest?.(".place")?.place;
    if (place !== undefined) this.app.pick(place, pinned);
  }

  /** The keyboard: arrows move, Enter pins, Escape frees, [ and ] go through the heads. */
  key(event) {
    const { app } = this, last = this.places.length - 1, at = app.place ?? last;
    const on = this.leftwards(at) ? -1 : 1;
    const to = {
      ArrowLeft: () => at - on, ArrowRight: () => at + on, Home: () => 0, End: () => last,
      ArrowUp: () => this.line(at, -1), ArrowDown: () => this.line(at, 1),
    }[event.key];
    if (to && last >= 0) app.pick(Math.max(0, Math.min(last, to())), app.pinned, true);
    else if (event.key === "Enter") app.pick(at, true);
    else if (event.key === "Escape") app.free();
    else if (event.key === "[" || event.key === "]") app.nextHead(event.key === "]" ? 1 : -1);
    else return;
    event.preventDefault();
  }

  /** Whether the line of a place runs from right to left: as its first letter does. */
  leftwards(place) {
    let first = place, letter;
    while (first > 0 && this.places[first - 1].char !== "\n") first--;
    for (; (letter = this.places[first]?.char) && letter !== "\n"; first++) {
      if (/\p{L}/u.test(letter)) return LEFTWARDS.test(letter);
    }
    return false;
  }

  /** The place above or below in the text as it is laid out. */
  line(place, step) {
    const from = this.places[place].getBoundingClientRect();
    let best = place, nearest = Infinity;
    for (let i = place + step; i >= 0 && i < this.places.length; i += step) {
      const box = this.places[i].getBoundingClientRect();
      const down = (box.top - from.top) * step;
      if (down < from.height / 2) continue;
      if (down > from.height * 2.5) break;
      const apart = down * 4 + Math.abs(box.left - from.left);
      if (apart < nearest) [best, nearest] = [i, apart];
    }
    return best;
  }

  /** Mark the place, and shade all others. shades: per place a share of 1, with a sign, or null. */
  shade(selected, pinned, shades, start) {
    this.places.forEach((node, place) => {
      const value = shades?.[place] ?? 0;
      const step = Math.round(Math.min(1, Math.abs(value)) * 10);
      const name = node.kind + (step ? ` ${value < 0 ? "below" : "above"}-${step}` : "")
        + (place === selected ? (pinned ? " chosen pinned" : " chosen") : "")
        + (start !== null && (place < start || place > selected) ? " outside" : "");
      if (name !== node.className) node.className = name; // of thousands, few change
      if (place === selected) node.setAttribute("aria-selected", "true");
      else node.removeAttribute("aria-selected");
    });
    if (selected === null) this.box.removeAttribute("aria-activedescendant");
    else this.box.setAttribute("aria-activedescendant", `place-${selected}`);
  }
}

/** What shades the text, per place: a share of 1, negative where something is taken away. */
function shadesOf(side, kind, place, head, pair) {
  const { text } = side, record = text.whole(place), start = text.starts[place];
  const out = new Array(text.ids.length).fill(0);
  if (kind === "surprise") {
    out.forEach((_, i) => { out[i] = (text.surprise(i)?.mixed ?? 0) / 6; }); // 6 bits and more are darkest
  } else if (kind === "counts") {
    out.forEach((_, i) => { out[i] = better(text.surprise(i)) / 4; }); // 4 bits and more are darkest
  } else if (!record || kind === "none") return out;
  else if (kind === "looks") {
    attention(side, record, head).forEach((value, i) => { out[start + i] = value; });
  } else if (kind === "seen") {
    for (let later = place; later < text.ids.length; later++) {
      const from = text.starts[later];
      if (from > place || !text.records[later]) continue;
      out[later] = attention(side, text.records[later], head)[place - from];
    }
  } else {
    const added = bySource(side.model, record, ...pair, head);
    const most = added.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-9);
    added.forEach((value, i) => { out[start + i] = value / most; });
  }
  return out;
}

/** Where a place looks, (t + 1,): one head, [layer, head], or the mean of all for null. */
function attention(side, record, head) {
  const { n_layer, n_head } = side.model.config, T = record.t + 1;
  if (head) return record.patterns[head[0]].subarray(head[1] * T, (head[1] + 1) * T);
  const mean = new Float64Array(T);
  for (const row of record.patterns) for (let i = 0; i < row.length; i++) mean[i % T] += row[i];
  return mean.map((value) => value / (n_layer * n_head));
}
