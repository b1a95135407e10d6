/* The board: a line of the text is a game of tic-tac-toe, and its digits are the moves. */
"use strict";

const SQUARES = "123456789";
const ROWS = ["123", "456", "789", "147", "258", "369", "159", "357"];

/** Who has three in a row after a game, X or O, if one has. */
function threeInARow(game) {
  const has = (who, square) => game.includes(square) && "XO"[game.indexOf(square) % 2] === who;
  return ["X", "O"].find((who) => ROWS.some((row) => [...row].every((square) => has(who, square))));
}

/** What became of a game, in words; empty while it goes on. */
function endOfGame(game) {
  for (let place = 0; place < game.length; place++) {
    const before = game.slice(0, place), char = game[place];
    const taken = before.includes(char);
    if (!SQUARES.includes(char) || taken || threeInARow(before)) {
      return `${place % 2 ? "The model" : "You"} wrote ${char}, which is not allowed${taken ? ": it is taken" : ""}.`;
    }
  }
  const who = threeInARow(game);
  if (who) return who === "X" ? "X has won: you have beaten the model." : "O has won: that is the model.";
  return game.length === SQUARES.length ? "A draw." : "";
}

class BoardView {
  /** box: the element around the board; turn: how many characters the model writes in one. */
  constructor(box, app, turn) {
    Object.assign(this, { app, turn, fresh: true });
    this.squares = [...SQUARES].map((char) => el("button", { type: "button", class: "square", onclick: () => this.play(char) }));
    fill(byId("board"), ...this.squares);
    byId("board").addEventListener("keydown", (event) => {
      if (SQUARES.includes(event.key)) this.play(event.key);
    });
    byId("new-game").addEventListener("click", () => this.renew());
    byId("length").value = turn;
    byId("window").value = "slide"; // a game may fill the window
    byId("page").prepend(byId("look")); // what one came for
    document.body.classList.add("playing");
    box.hidden = false;
  }

  /** The game in the last line of the text; where that is empty, the one before may stay in view. */
  get game() {
    const [line, before] = this.app.chars.join("").split("\n").reverse();
    return line || this.fresh ? line : before ?? "";
  }

  /** Whether the first player may move: after what the model has answered, while a game goes on. */
  get open() {
    return this.game.length % 2 === 0 && !endOfGame(this.game);
  }

  /** Read a text; where the model is to move in it, it does. */
  async begin(chars) {
    await this.app.readAnew(chars);
    if (this.game.length % 2) await this.app.go(this.answer());
  }

  /** Steps in which the model has its turn, and after a win ends the line. */
  *answer() {
    this.fresh = false;
    yield* this.app.writing(this.turn);
    if (threeInARow(this.game) && this.app.chars.at(-1) !== "\n") yield* this.app.writing(1);
  }

  /** Take a square. What has not been checked yet is checked behind it. */
  async play(char) {
    if (!this.open) return;
    this.app.append(char);
    await this.app.go(this.answer());
    await this.app.checkAll();
  }

  /** Clear the board, and end the line of a game that goes on. */
  async renew() {
    this.fresh = true;
    if (this.app.chars.at(-1) !== "\n") this.app.append("\n");
    await this.app.go(this.app.writing(0));
    this.squares[0].focus();
  }

  draw() {
    const { game } = this, ended = endOfGame(game);
    this.squares.forEach((square, i) => {
      const char = SQUARES[i], at = game.indexOf(char), mark = at < 0 ? "" : "XO"[at % 2];
      square.className = mark ? "square taken" : "square";
      square.textContent = mark || char;
      square.setAttribute("aria-label", `square ${char}, ${mark || "free"}`);
      square.setAttribute("aria-disabled", String(!this.open));
    });
    const turn = game.length % 2 ? "The model's turn: press Go on." : "Your turn: you are X.";
    const said = ended ? `${ended} Press New game.` : turn;
    if (byId("told").textContent !== said) byId("told").textContent = said;
  }
}
