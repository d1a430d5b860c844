// The exits: how many of which cause over time, and the last ones with what was known of them.

import { h } from "./dom.js";
import { CAUSES, cause, tone } from "./causes.js";
import { bytes, duration, visible } from "./format.js";
import { plot, swatch } from "./plot.js";
import { button, choice, foreign, table, time } from "./widgets.js";

export const SPANS = { 15: "15 minutes", 60: "hour", 360: "6 hours", 1440: "24 hours" };
const FEW = 12;
const COLUMNS = [
  ["when", ""],
  ["process", "name"],
  ["cause", ""],
  ["message", "message"],
];

/** The section; `view` has the filter (`minutes`, `pool`, `cause`) and `filter(changes)`, `pools`, `series`, `width`,
 *  `exits`, whether `all` are listed and `toggleAll`, which are `opened` (by key) and `toggleRecord(key)`. */
export function exitsView(view) {
  const { series, exits, width, error } = view;
  return h(
    "section",
    { class: "card exits", "aria-labelledby": "exits" },
    h("header", {}, h("h2", { id: "exits", tabindex: "-1" }, "Exits"), span(view)),
    h("div", { id: "plot" }, series ? plot(series, width) : h("p", { class: "empty" }, error || "Loading …")),
    h("h3", {}, "Last exits"),
    filters(view),
    list(view),
  );
}

function list(view) {
  const { exits, all, toggleAll } = view;
  if (exits.length === 0) return h("p", { class: "empty" }, "None on record.");
  const rows = exits.slice(0, all ? exits.length : FEW).flatMap((record) => rowsOf(record, view));
  const more = button(all ? "Show fewer" : `Show all ${exits.length}`, toggleAll);
  return [table("Last exits, newest first", COLUMNS, rows), exits.length > FEW && h("p", { class: "rest" }, more)];
}

function span({ minutes, filter }) {
  return choice("last", String(minutes), Object.entries(SPANS), (value) => filter({ minutes: Number(value) }));
}

function filters({ pool, cause: name, pools, filter }) {
  const any = (noun) => ["", `every ${noun}`];
  const causes = Object.entries(CAUSES).map(([value, { label }]) => [value, label]);
  return h(
    "p",
    { class: "filters" },
    choice("pool", pool, [any("pool"), ...pools.map((each) => [each, each])], (value) => filter({ pool: value })),
    choice("cause", name, [any("cause"), ...causes], (value) => filter({ cause: value })),
  );
}

function rowsOf(record, view) {
  const key = `${record.at} ${record.pid}`;
  const line = {
    key,
    cells: [
      time(record.at),
      process(record),
      [causeTag(record.cause), h("small", {}, ` ${ending(record)}`)],
      what(record, key, view),
    ],
  };
  return view.opened.has(key) ? [line, { key: `${key} details`, whole: details(record) }] : [line];
}

function process({ pool, kind, slot, pid }) {
  const name = slot === null || slot === undefined ? `${kind} ${pool}` : `${pool}/${slot}`;
  return [foreign(name, 60), h("small", {}, ` ${pid}`)];
}

/** A cause in a word beside its colour and hatching; those of failures that no process died of have none. */
export function causeTag(name) {
  if (!CAUSES[name]) return h("span", { class: "chip" }, visible(name, 40));
  return h("span", { class: `cause ${tone(name)}` }, swatch(name), ` ${cause(name).label}`);
}

function ending({ status, signal, core_dumped: core }) {
  const how = signal ?? (status === null || status === undefined ? "" : `status ${status}`);
  return visible(core ? `${how}, core dumped` : how, 40);
}

function what(record, key, { opened, toggleRecord }) {
  const title = record.message_id ? foreign(record.message_id, 120) : record.run || "no message";
  const expanded = opened.has(key) ? "true" : "false";
  return h(
    "button",
    { type: "button", class: "more", "aria-expanded": expanded, onclick: () => toggleRecord(key) },
    title,
  );
}

function details(record) {
  const stack = { tabindex: "0", role: "region", "aria-label": "Stack" };
  return [facts(record), record.stack ? h("pre", stack, visible(record.stack, 20_000, true)) : null];
}

const DETAILS = {
  run: (value) => value,
  attempt: (value) => value,
  elapsed_s: (value, { limit_s: limit }) => duration(value) + (limit ? ` of ${duration(limit)}` : ""),
  uptime_s: (value) => duration(value),
  messages: (value) => value,
  requested_by: (value) => value,
  oom_evidence: (value) => value,
  max_rss_bytes: (value) => bytes(value),
  cpu_user_s: (value) => duration(value),
  restart_in_s: (value) => duration(value),
  generation: (value) => value,
};
const TERMS = {
  elapsed_s: "ran for",
  uptime_s: "lived",
  max_rss_bytes: "memory",
  cpu_user_s: "CPU",
  restart_in_s: "replaced in",
  requested_by: "requested by",
  oom_evidence: "OOM evidence",
};

function facts(record) {
  const known = Object.entries(DETAILS).filter(
    ([name]) => record[name] !== null && record[name] !== undefined && record[name] !== "",
  );
  return h(
    "dl",
    { class: "details" },
    known.map(([name, show]) =>
      h("div", { key: name }, h("dt", {}, TERMS[name] ?? name), h("dd", {}, visible(show(record[name], record), 200))),
    ),
  );
}
