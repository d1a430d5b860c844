// Small pieces that several views are made of.

import { h } from "./dom.js";
import { clock, visible } from "./format.js";

const LEVELS = {
  ok: "good",
  running: "good",
  consuming: "good",
  connected: "good",
  ready: "good",
  idle: "calm",
  degraded: "bad",
  held: "bad",
  refused: "bad",
  closed: "bad",
  blocked: "bad",
  paused: "warn",
  backoff: "warn",
  connecting: "warn",
  stopping: "warn",
  draining: "warn",
  leaving: "warn",
};
const MARKS = { good: "✓", bad: "!", warn: "▲", note: "…", calm: "·", past: "·" };

/** A state in a word, with a colour and a mark. */
export function pill(state, level = LEVELS[state] ?? "note") {
  return h("span", { class: `pill ${level}` }, mark(level), ` ${visible(state, 40)}`);
}

/** The sign of a level; says nothing to screen readers, for which the word beside it is enough. */
export function mark(level) {
  return h("span", { class: "mark", "aria-hidden": "true" }, MARKS[level]);
}

/** Text from outside, on its own: it can turn nothing round that stands beside it. */
export function foreign(text, limit) {
  return h("bdi", { class: "foreign" }, visible(text, limit));
}

/** A point in time. */
export function time(instant) {
  return h("time", { datetime: String(instant ?? "") }, clock(instant));
}

/** A term and what it says, for a list of facts. */
export function fact(term, ...value) {
  return h("div", {}, h("dt", {}, term), h("dd", {}, ...value));
}

/** Stands for a cell that the one before it covers. */
export const SPANNED = Symbol("spanned");

/** A table with a caption; `columns` are `[title, class]`, `rows` lists of cells with a `key`. The first cell of a row
 *  is its head; a row that has `whole` instead of cells says more of the one before. The roles are said again, because
 *  the narrow layout takes them away. */
export function table(caption, columns, rows) {
  const titles = columns.map(([title, kind]) => h("th", { role: "columnheader", scope: "col", class: kind }, title));
  return h(
    "table",
    { role: "table" },
    h("caption", {}, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, titles)),
    h(
      "tbody",
      { role: "rowgroup" },
      rows.map((row) => tableRow(columns, row)),
    ),
  );
}

/** A table that may be wider than there is room: it is scrolled by itself, by keyboard, too. */
export function scrolling(caption, columns, rows) {
  const props = { class: "scrolling", tabindex: "0", role: "region", "aria-label": caption };
  return h("div", props, table(caption, columns, rows));
}

function tableRow(columns, { key, kind, cells, whole }) {
  if (whole) {
    const cell = h("td", { role: "cell", colspan: columns.length, class: "whole" }, whole);
    return h("tr", { key, role: "row", class: kind }, cell);
  }
  const cell = (content, index) => {
    const [title, column] = columns[index];
    const head = index === 0;
    const props = { scope: head ? "row" : undefined, class: column, "data-title": title, colspan: span(index) };
    return content !== SPANNED && h(head ? "th" : "td", { role: head ? "rowheader" : "cell", ...props }, content);
  };
  const span = (index) =>
    cells[index + 1] === SPANNED ? cells.slice(index + 1).findIndex((next) => next !== SPANNED) + 1 : undefined;
  return h("tr", { key, role: "row", class: kind }, cells.map(cell));
}

/** A button; `why` it cannot be used now, if so: it stays reachable, so that the reason can be found. */
export function button(label, onclick, { why = "", kind = "", name } = {}) {
  const props = { type: "button", class: kind, "aria-label": name, title: why || undefined };
  return h("button", { ...props, "aria-disabled": why ? "true" : undefined, onclick }, label);
}

/** A select; `options` are `[value, label]`. */
export function choice(label, value, options, onchange) {
  const items = options.map(([option, text]) => h("option", { key: option, value: option }, visible(text, 60)));
  return h(
    "label",
    { class: "choice" },
    `${label} `,
    h("select", { value, onchange: (event) => onchange(event.target.value) }, items),
  );
}
