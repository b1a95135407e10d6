/* Net and counts side by side: what each expects at a place, and which of them guesses better. */
"use strict";

/** What `opinions` found, for the characters that matter: the likeliest to both, the likeliest to
 * each, and the one that came, `next`. */
function opinionsTable(chars, { net, counted, mixed }, next) {
  const order = ranked(mixed);
  const shown = new Set([...order.slice(0, 5), ranked(net)[0], ranked(counted)[0], next]);
  const rows = order.filter((id) => shown.has(id)).map((id) => [
    el("span", {}, glyph(chars[id]), id === next ? " ← came" : ""),
    percent(net[id]), percent(counted[id]), percent(mixed[id]), share(mixed[id]),
  ]);
  return table("The likeliest next characters, to the net, to the counts, and mixed",
    ["character", "net", "counts", "mixed", ""], rows, { class: "opinions" });
}

/** How the two come together: how long a context the counts know, and their share. */
function mixing(chars, { known, share: part }, ids) {
  const context = visibleText(ids.slice(ids.length - known).map((id) => chars[id]));
  const what = known ? `the last ${known === 1 ? "character" : `${known} characters`}, “${context}”`
    : "nothing of what stands before";
  return `The counts know ${what}. There their share is ${percent(part)}: mixed is ${percent(1 - part)} of the net and ${percent(part)} of the counts.`;
}

/** Which of the two guessed the character that came better: a sentence. */
function winner({ net, counted }) {
  const said = (bits) => percent(2 ** -bits);
  if (net === counted) return "Net and counts guessed it alike.";
  return counted < net ? `The counts guessed it better: ${said(counted)} to the net's ${said(net)}.`
    : `The net guessed it better: ${said(net)} to the counts' ${said(counted)}.`;
}

/** How often each was the better guess in a text. */
function tallyTable(text) {
  const { n, bits, ...wins } = tally(text);
  if (!n) return null;
  const row = (name, by) => [name, ...(by in wins ? [String(wins[by]), percent(wins[by] / n)] : ["", ""]), bits[by].toFixed(3)];
  return table(`Which was the better guess, for the ${n} characters of this text after the first`,
    ["", "better", "of all", "bits a character"],
    [row("net", "net"), row("counts", "counted"), row("mixed", "mixed")], { class: "opinions" });
}
