/* The page: what is shown, what is chosen, and what has to be done anew when something changes. */
"use strict";

class App {
  /** counts: of each side the bytes of its counts, or null. */
  constructor(given, counts) {
    this.sides = given.sides.map((side, i) => new Side(side, byId(`weights-${i}`), counts[i], i));
    this.main = this.sides[0];
    this.place = null;
    this.pinned = false;
    this.head = null; // [layer, head], or null for all
    this.shading = "looks";
    this.view = new TextView(byId("text"), this);
    this.places = this.sides.map((side) => new PlaceView(side, this));
    this.weights = this.sides.map((side) => new WeightsView(side, this));
    this.contexts = this.sides.filter((side) => side.task).map((side) => new ContextsView(side, this));
    byId("places").append(...this.places.map((view) => view.box));
    byId("weights").append(...this.weights.map((view) => view.box));
    byId("contexts").append(...this.contexts.map((view) => view.box));
    byId("proof").hidden = !this.contexts.length;
    this.badge();
    this.controls(given);
    this.board = given.board ? new BoardView(byId("game"), this, given.turn) : null;
  }

  /** Show the text that Python wrote, or a game, then try every context. */
  async start() {
    const chars = Array.from(this.main.checks.text), { value } = byId("prompt");
    if (this.board) await this.board.begin(Array.from(value));
    else await this.readAnew(chars, Math.max(0, SHORT - chars.length));
    await this.checkAll();
  }

  /** Ask about every context, unless that was done. */
  async checkAll() {
    for (const view of this.contexts) if (!view.checked) await this.check(view);
  }

  get chars() {
    return this.main.text.ids.map((id) => this.main.model.chars[id]);
  }

  /** Whether each engine agrees with what PyTorch computed. */
  badge() {
    const bad = this.sides.some(({ check }) => !(check.off <= check.allowed));
    byId("badge").className = bad ? "bad" : "good";
    fill(byId("badge"), ...this.sides.map(({ label, check, said }) => el("span", {},
      check.off <= check.allowed ? `✓ ${label} agrees with PyTorch to ${check.off.toExponential(0)}${said}`
        : `✗ FAILED: ${label} is off from PyTorch by ${check.off.toExponential(0)}; do not trust this page`)));
  }

  controls(given) {
    byId("prompt").value = given.prompt;
    byId("temperature").value = given.temperature;
    byId("write").addEventListener("submit", (event) => { event.preventDefault(); this.begin(); });
    byId("go-on").addEventListener("click", () => this.goOn());
    byId("stop").addEventListener("click", () => work.stop());
    byId("free").addEventListener("click", () => this.free());
    byId("back").addEventListener("click", () => this.step(-1));
    byId("forth").addEventListener("click", () => this.step(1));
    byId("duel").hidden = !this.main.model.counts;
    const shades = SHADES.filter(([value]) => value !== "counts" || this.main.model.counts);
    byId("shading").append(...shades.map(([value, label]) => el("option", { value }, label)));
    byId("shading").addEventListener("change", (event) => { this.shading = event.target.value; this.refresh(); });
    byId("theme").addEventListener("change", (event) => {
      document.documentElement.dataset.theme = event.target.value;
      this.refresh();
    });
  }

  /** The numbers of the form. */
  options() {
    const number = (id) => (byId(id).value.trim() === "" ? null : Number(byId(id).value));
    return {
      n: number("length") ?? 200, temperature: number("temperature") ?? 0,
      topK: number("top-k"), topP: number("top-p"), seed: number("seed") ?? 1,
    };
  }

  complain(sentence) {
    byId("complaint").textContent = sentence;
  }

  /** Read the prompt and write on. */
  begin() {
    let chars = Array.from(byId("prompt").value);
    const unknown = [...new Set(chars)].filter((char) => this.sides.some((side) => !side.model.ids.has(char)));
    if (unknown.length && byId("skip").checked) chars = chars.filter((char) => !unknown.includes(char));
    else if (unknown.length) {
      const named = unknown.map((char) => `“${visible(char)}” (${codePoint(char)})`).join(", ");
      return this.complain(`The prompt has ${named}, unknown to this model. Take it out, or tick “leave out unknown characters”.`);
    }
    if (!chars.length) return this.complain("The prompt has no character to start from. Give at least one.");
    this.random = randomNumbers(this.options().seed);
    return this.readAnew(chars, this.options().n);
  }

  /** Read chars as a new text, choose its last place, and write n more. */
  readAnew(chars, n = 0) {
    this.complain("");
    this.free();
    this.view.clear();
    for (const side of this.sides) {
      side.restart(byId("window").value);
      side.text.read(side.ids(chars));
    }
    this.view.grow(chars);
    this.pick(chars.length - 1, false);
    return this.go(this.writing(n));
  }

  goOn() {
    if (this.main.text.ids.length + this.options().n > MOST_PLACES) {
      return this.complain(`The text would have more than ${MOST_PLACES} characters. Start a new one.`);
    }
    return this.go(this.writing(this.options().n));
  }

  /** Do a piece of work, and say so meanwhile. */
  async go(steps) {
    document.body.classList.add("busy");
    byId("status").textContent = "working …";
    const whole = await work.run(steps);
    if (work.current) return; // something else has begun
    document.body.classList.remove("busy");
    byId("status").textContent = whole ? "ready" : "stopped";
    this.refresh();
  }

  /** Steps that pass what is pending through every model, and write n characters. */
  *writing(n) {
    const options = this.options();
    this.random ??= randomNumbers(options.seed);
    let begun = performance.now(), written = 0;
    for (; ; written++) {
      for (const side of this.sides) while (side.text.step()) yield;
      if (!written) { this.refresh(); begun = performance.now(); }
      if (written === n) break;
      const id = choose(this.main.text.scores(), options, this.random);
      this.append(this.main.model.chars[id]);
      if (!this.pinned) this.place = this.main.text.ids.length - 2;
      yield;
    }
    if (n) byId("speed").textContent = `${Math.round((1000 * n) / (performance.now() - begun))} characters a second`;
  }

  /** Add a character to the text of every model. */
  append(char) {
    for (const side of this.sides) side.text.append(side.ids([char])[0]);
    this.view.grow(this.chars);
  }

  /** Look at a place. A pinned one stays until another is pinned, or it is freed. */
  pick(place, pinned, moved = false) {
    if (this.pinned && !pinned && !moved) return;
    this.pinned = pinned;
    this.place = place;
    this.refresh();
    if (pinned || moved) byId("live").textContent = this.places[0].sentence(place);
  }

  free() {
    this.pinned = false;
    this.refresh();
  }

  step(by) {
    const last = this.main.text.ids.length - 1;
    if (last >= 0) this.pick(Math.max(0, Math.min(last, (this.place ?? last) + by)), true);
  }

  chooseHead(head) {
    this.head = head;
    this.refresh();
  }

  /** The chosen head, or null where this model has none such. */
  headOf({ model }) {
    const { head } = this, { n_layer, n_head } = model.config;
    return head && head[0] < n_layer && head[1] < n_head ? head : null;
  }

  nextHead(by) {
    const { n_layer, n_head } = this.main.model.config, all = n_layer * n_head + 1;
    const at = this.head ? this.head[0] * n_head + this.head[1] + 1 : 0, to = (at + by + all) % all;
    this.chooseHead(to ? [Math.floor((to - 1) / n_head), (to - 1) % n_head] : null);
  }

  /** Switch a part of a model off, or on again. */
  toggle(side, part) {
    side.off = new Set(side.off);
    if (!side.off.delete(part)) side.off.add(part);
    this.pinned = true;
    return this.anew(side, this.places[side.index].continuing(this.place));
  }

  /** Read the text again with a model that has changed, then do `more`. */
  anew(side, more = []) {
    side.reread();
    const view = this.places[side.index];
    view.totals = view.written = null;
    return this.go((function* () {
      while (side.text.step()) yield;
      yield* more;
    })());
  }

  weightsChanged(side, byBreak = false) {
    const contexts = this.contexts.find((view) => view.side === side);
    if (contexts && !byBreak) contexts.sentence.textContent = "";
    this.weights[side.index].tell();
    return this.anew(side, contexts ? contexts.checking() : []);
  }

  /** Ask about every context again. */
  check(contexts) {
    return this.go(contexts.checking());
  }

  measure(view, place) {
    this.pinned = true;
    return this.go(view.measuring(place));
  }

  /** Show a context as the text, with its last place chosen. */
  lookInto(context) {
    byId("prompt").value = context;
    this.readAnew(Array.from(context));
    byId("look").scrollIntoView({ block: "start" });
  }

  /** Draw what depends on the place that is chosen, at most once a frame. */
  refresh() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.draw();
    });
  }

  draw() {
    const { place, main } = this;
    this.board?.draw();
    byId("free").disabled = !this.pinned;
    if (place === null || !main.text.records[place]) return this.view.shade(place, this.pinned, null, null);
    const shades = shadesOf(main, this.shading, place, this.headOf(main), this.places[0].pair(place));
    const whole = ["surprise", "counts", "seen"].includes(this.shading); // not the window alone
    const start = whole ? null : main.text.starts[place];
    this.view.shade(place, this.pinned, shades, start);
    for (const view of this.places) view.draw(place);
  }
}

const MOST_PLACES = 10000;
const SHORT = 40; // characters: a text that Python wrote is made as long as that

window.addEventListener("DOMContentLoaded", async () => {
  const given = JSON.parse(byId("given").textContent);
  const app = new App(given, await Promise.all(given.sides.map((_, i) => countsOf(byId(`counts-${i}`)))));
  byId("loading").remove();
  byId("page").hidden = false;
  window.app = app; // for the console
  app.start();
});
