// One pool: its state, its figures and its tree of processes, with what each worker is at.

import { h } from "./dom.js";
import { bytes, count, duration, plural, rate, visible } from "./format.js";
import { handlerTimes, meanTime } from "./histogram.js";
import { SPANNED, button, fact, foreign, pill, table } from "./widgets.js";

const FEW = 24; // workers that are shown one by one, in the order of their slots
const MORE = 200;
const BUSY = new Set(["running", "publishing"]);
const URGENCY = ["held", "backoff", "stopped", "running", "publishing", "leaving", "booting", "idle"];
const GIVEN_UP = new Set(["dead", "parked"]);
const NEARLY = 0.8;

const COLUMNS = [
  ["process", "name"],
  ["state", "state"],
  ["message", "message"],
  ["elapsed of limit", "elapsed"],
  ["handled", "number handled"],
  ["memory", "number"],
  ["restarts", "number"],
  ["pid", "number pid"],
];

/** A section; `view` has `age` (seconds since the status was true), `rate`, `wide` (whether more workers are shown),
 *  `widen` and `actions`. */
export function poolView(name, pool, view) {
  const id = `pool-${encodeURIComponent(name)}`;
  const heading = h("h2", { id, tabindex: "-1" }, foreign(name, 60));
  return h(
    "section",
    { key: id, class: "card pool", "aria-labelledby": id },
    h("header", {}, heading, pill(pool.state), why(pool), poolButtons(name, pool, view.actions)),
    figures(pool, view),
    notes(pool),
    processes(name, pool, view),
    handlerTimes(pool.measures?.handler_s),
  );
}

function why({ why: reason, paused }) {
  const text = reason || (paused ? `by ${paused.by}` : "");
  return text && h("span", { class: "why" }, foreign(text, 300));
}

function poolButtons(name, pool, { run, retry, scale, reason }) {
  const paused = Boolean(pool.paused);
  const [verb, label] = paused ? ["resume", "Resume"] : ["pause", "Pause"];
  return h(
    "div",
    { class: "actions" },
    button(label, () => run(name, verb), { why: reason, name: `${label} ${visible(name, 60)}` }),
    isHeld(pool) && button("Try again", () => retry(name), { why: reason, name: `Try ${visible(name, 60)} again` }),
    button("Scale…", () => scale(name, pool), { why: reason, name: `Scale ${visible(name, 60)}` }),
  );
}

function isHeld({ forkserver, consumer, workers }) {
  return [forkserver, consumer, ...workers].some(({ state }) => state === "held" || state === "backoff");
}

// ---- figures -------------------------------------------------------------------------------------------------------

function figures(pool, { rate: perSecond }) {
  const { counters, consumer, depth, measures } = pool;
  const facts = [
    fact("ready in queue", h("b", {}, count(depth?.ready))),
    fact("in flight", count(consumer.in_flight)),
    fact("done", count(counters.done), perSecond === null ? null : h("small", {}, ` ${rate(perSecond)}`)),
    fact("handler time", meanTime(measures?.handler_s)),
    ...["failed", "retried", "dead", "parked"].map((name) => troubles(name, counters[name])),
    fact("duplicates suppressed", count(counters.duplicate)),
  ];
  return h("dl", { class: "facts" }, facts);
}

function troubles(name, number) {
  return fact(name, number ? h("b", { class: GIVEN_UP.has(name) ? "bad" : undefined }, count(number)) : "0");
}

function notes({ consumer, wanted, configured }) {
  const scaled =
    wanted !== configured && `scaled to ${plural(wanted, "worker")} until the next reload; configured: ${configured}`;
  const items = [...(consumer.notes ?? []), scaled].filter(Boolean);
  const lines = items.map((text, index) => h("li", { key: index }, foreign(text, 300)));
  return items.length > 0 && h("ul", { class: "notes" }, lines);
}

// ---- processes -----------------------------------------------------------------------------------------------------

function processes(name, pool, view) {
  const { workers } = pool;
  const limit = view.wide ? MORE : FEW;
  const listed = (workers.length > FEW ? busiestFirst(workers) : workers).slice(0, limit);
  const rows = [
    childRow("forkserver", pool.forkserver),
    childRow("consumer", pool.consumer, connection(pool.consumer, view.age)),
    ...listed.map((worker) => workerRow(worker, view.age)),
  ];
  return h(
    "div",
    { class: "processes" },
    summary(workers),
    table(`Processes of ${visible(name, 60)}`, COLUMNS, rows),
    rest(workers.length - listed.length, view),
  );
}

function summary(workers) {
  const states = URGENCY.map((state) => [state, workers.filter((worker) => worker.state === state).length]);
  const chips = states
    .filter(([, number]) => number > 0)
    .map(([state, number]) => h("span", { class: `chip state-${state}` }, h("b", {}, count(number)), ` ${state}`));
  return h("p", { class: "chips" }, `${plural(workers.length, "worker")}: `, chips);
}

function busiestFirst(workers) {
  const worth = (worker) => URGENCY.indexOf(worker.state);
  return [...workers].sort((a, b) => worth(a) - worth(b) || b.elapsed_s - a.elapsed_s || a.slot - b.slot);
}

function rest(hidden, { wide, widen }) {
  if (hidden <= 0 && !wide) return null;
  const text = hidden > 0 ? `${plural(hidden, "more worker")} not shown (the busiest come first). ` : "";
  return h("p", { class: "rest" }, text, button(wide ? "Show fewer" : "Show more", widen));
}

function childRow(kind, child, message = "") {
  const note = child.why ? foreign(child.why, 200) : message;
  return {
    key: kind,
    kind: "service",
    cells: [
      h("span", { class: "branch" }, kind),
      pill(child.state),
      note,
      SPANNED,
      SPANNED,
      memory(child),
      ...ends(child),
    ],
  };
}

function connection({ connection: link }, age) {
  if (!link?.state) return "not connected yet";
  const since = link.state === "connected" ? ` for ${duration(link.since_s + age)}` : "";
  return [`${link.state} `, foreign(link.host, 80), since, link.why ? [": ", foreign(link.why, 200)] : ""];
}

function workerRow(worker, age) {
  const busy = BUSY.has(worker.state);
  const elapsed = busy ? worker.elapsed_s + age : 0;
  return {
    key: worker.name,
    kind: `worker state-${worker.state}`,
    cells: [
      h("span", { class: "branch" }, visible(worker.name, 60)),
      [pill(worker.state), again(worker, age)],
      worker.message_id ? [foreign(worker.message_id, 80), attempt(worker)] : "",
      worker.attempt ? bar(elapsed, worker) : "",
      count(worker.handled),
      memory(worker),
      ...ends(worker),
    ],
  };
}

function memory({ rss_bytes: resident }) {
  return resident ? bytes(resident) : "–";
}

function ends({ restarts, pid }) {
  return [restarts ? h("b", {}, count(restarts)) : "0", pid ?? "–"];
}

function again({ restart_in_s: left }, age) {
  return left === null || left === undefined ? null : h("small", {}, ` again in ${duration(Math.max(0, left - age))}`);
}

function attempt(worker) {
  return worker.attempt > 1 ? h("small", { class: "warn" }, ` attempt ${worker.attempt}`) : null;
}

function bar(elapsed, { limit_s: limit, limit_source: source }) {
  if (!limit) return h("span", { class: "meter-text" }, `${duration(elapsed)}, no limit`);
  const part = Math.min(1, elapsed / limit);
  const level = part >= 1 ? "bad" : part >= NEARLY ? "warn" : "good";
  const from = source === "pool" ? "" : ` (${source})`;
  return [
    h(
      "span",
      { class: `meter ${level}`, "aria-hidden": "true" },
      h("span", { style: { width: `${(100 * part).toFixed(1)}%` } }),
    ),
    h("span", { class: "meter-text" }, `${duration(elapsed)} of ${duration(limit)}${from}`),
  ];
}
