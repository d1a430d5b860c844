// Messages that were given up (dead) or parked, with their diagnosis. Looking takes them out of their queue and gives
// them back, so the page looks when it is asked to, never by itself.

import { h } from "./dom.js";
import { count, plural, visible } from "./format.js";
import { causeTag } from "./exits-view.js";
import { button, choice, fact, foreign, time } from "./widgets.js";

const KINDS = [
  ["dead", "dead: given up"],
  ["parked", "parked: in doubt, the effect may have happened"],
];
const WITHHELD = "Bodies and headers are shown with the token: enter it above, then look again.";
const NO_ID = "A message without an id cannot be chosen here; preforkd dead retry --all includes it.";

/** The section; `view` has `pool`, `kind`, `pools`, `found`, `busy`, `error`, `chosen` (a Set of ids), `reason` (why
 *  nothing can be done) and what to call: `choose`, `look`, `mark`, `act`. */
export function lettersView(view) {
  const { pool, pools, kind, busy, error, found } = view;
  return h(
    "section",
    { class: "card letters", "aria-labelledby": "letters" },
    h("header", {}, h("h2", { id: "letters", tabindex: "-1" }, "Messages given up")),
    h(
      "p",
      { class: "filters" },
      choice(
        "pool",
        pool,
        pools.map((name) => [name, name]),
        (value) => view.choose({ pool: value }),
      ),
      choice("which", kind, KINDS, (value) => view.choose({ kind: value })),
      button(busy ? "Looking …" : found ? "Look again" : "Look", view.look, { kind: "primary" }),
    ),
    error ? h("p", { class: "bad", role: "alert" }, foreign(error, 600)) : null,
    found
      ? contents(view)
      : h(
          "p",
          { class: "empty" },
          "The page takes the messages out of their queue and returns them, so it reads them only on request.",
        ),
  );
}

function contents(view) {
  const { letters, total, at } = view.found;
  if (letters.length === 0) return h("p", { class: "empty" }, `There are no ${view.kind} messages.`);
  const seen = `${count(letters.length)} of ${plural(total, "message")}, oldest first`;
  return [
    h("p", {}, seen, at ? [", as of ", time(at)] : null),
    view.found.withheld ? h("p", { class: "withheld" }, WITHHELD) : null,
    selection(view),
    h(
      "ul",
      { class: "letter-list" },
      letters.map((letter) => item(letter, view)),
    ),
  ];
}

function selection(view) {
  const ids = view.found.letters.map(({ id }) => id).filter(Boolean);
  const all = ids.length > 0 && ids.every((id) => view.chosen.has(id));
  const none = view.chosen.size === 0 ? "Choose messages first." : "";
  const chosen = [...view.chosen];
  const words = plural(chosen.length, "message");
  return h(
    "p",
    { class: "selection" },
    h("label", {}, h("input", { type: "checkbox", checked: all, onchange: () => view.mark(ids, !all) }), " all shown"),
    button(`Retry ${words}`, () => view.act("retry", chosen), { why: view.reason || none }),
    button(`Drop ${words}…`, () => view.act("drop", chosen), { why: view.reason || none, kind: "danger" }),
  );
}

function item(letter, view) {
  const { id, number } = letter;
  const name = id || `no id, number ${number}`;
  const short = visible(name, 80);
  const box = {
    type: "checkbox",
    "aria-label": `Choose ${short}`,
    checked: view.chosen.has(id),
    disabled: !id,
    title: id ? undefined : NO_ID,
    onchange: () => view.mark([id], !view.chosen.has(id)),
  };
  const why = view.reason || (id ? "" : NO_ID);
  return h(
    "li",
    { key: `${number} ${id}` },
    h("input", box),
    h(
      "details",
      {},
      h(
        "summary",
        {},
        foreign(name, 80),
        " ",
        causeTag(letter.cause),
        h("span", { class: "reason" }, foreign(firstLine(letter.reason), 160)),
      ),
      diagnosis(letter),
    ),
    h(
      "span",
      { class: "actions" },
      button("Retry", () => view.act("retry", [id]), { why, name: `Retry ${short}` }),
      button("Drop…", () => view.act("drop", [id]), { why, name: `Drop ${short}`, kind: "danger" }),
    ),
  );
}

function firstLine(text) {
  return String(text ?? "")
    .trim()
    .split("\n", 1)[0];
}

function diagnosis(letter) {
  const former = [...(letter.former ?? [])].reverse();
  return h(
    "div",
    { class: "diagnosis" },
    h("dl", { class: "facts" }, ending(letter), fact("body", plural(letter.body_bytes, "byte"))),
    block("Reason", letter.reason),
    block("Stack", letter.stack),
    block("Headers", headerLines(letter.headers)),
    block(letter.body_bytes > letter.body_preview.length ? "Beginning of the body" : "Body", letter.body_preview),
    former.map((round, index) => formerRound(round, index)),
  );
}

function formerRound(round, index) {
  return h(
    "div",
    { key: `former ${index}` },
    h("h3", {}, `Former round${Number.isInteger(round.round) ? ` ${round.round}` : ""}`),
    h("dl", { class: "facts" }, fact("cause", causeTag(round.cause)), ending(round)),
    block("Reason then", round.reason),
    block("Stack then", round.stack),
  );
}

/** How a round ended. */
function ending(round) {
  const how = round.signal || (Number.isInteger(round.status) ? `status ${round.status}` : "");
  return [
    fact("attempts", round.attempts ?? "–"),
    fact("given up", time(round.at)),
    round.worker ? fact("worker", foreign(round.worker, 80)) : null,
    how ? fact("ended with", visible(how, 40)) : null,
  ];
}

function headerLines(headers) {
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  return Object.entries(headers ?? {})
    .map(([name, value]) => `${name}: ${text(value)}`)
    .join("\n");
}

function block(title, text) {
  if (!text) return null;
  return h(
    "div",
    { key: title },
    h("h3", {}, title),
    h("pre", { tabindex: "0", role: "region", "aria-label": title, dir: "ltr" }, visible(text, 20_000, true)),
  );
}
