// The page's one state, what changes it, and what is drawn from it. Everything that is shown comes from the daemon's
// web process; nothing is decided here, and only the actions of the user are sent.

import { makeActions, reason } from "./actions.js";
import { get, poolPath, token } from "./api.js";
import { patch } from "./dom.js";
import { exitsView } from "./exits-view.js";
import { about, banner, concernList, freshness, headlineView, tools } from "./head-view.js";
import { lettersView } from "./letters-view.js";
import { follow } from "./live.js";
import { patterns } from "./plot.js";
import { poolView } from "./pool-view.js";
import { Rates } from "./rates.js";
import { LATELY, concerns, headline } from "./concerns.js";

const EXITS = 50;
const BUCKETS = 60;
const SETTLE_MS = 400; // exits come in flocks: the series is asked for once they have settled
const LETTERS = 100;

const rates = new Rates();
const state = {
  status: null,
  at: 0, // when it arrived
  link: { open: false, everOpen: false, lost: null, silent: null },
  wide: new Set(), // pools of which more workers are shown
  exits: {
    all: false,
    opened: new Set(),
    recent: null,
    filter: { minutes: 60, pool: "", cause: "" },
    records: [],
    series: null,
    error: "",
  },
  letters: { pool: "", kind: "dead", found: null, busy: false, error: "", chosen: new Set() },
};
const region = (id) => document.getElementById(id);
const actions = { ...makeActions(tokenChanged), forgetToken };

// ---- drawing -------------------------------------------------------------------------------------------------------

let due = 0;

function draw() {
  due ||= setTimeout(() => {
    due = 0;
    drawNow();
  });
}

function drawNow() {
  const { status, link } = state;
  const age = status ? (performance.now() - state.at) / 1000 : 0;
  patch(region("banner"), banner(link, age));
  patch(region("fresh"), freshness(link, age));
  patch(region("tools"), tools(Boolean(token.get()), reason(), actions));
  if (!status) return;
  drawVerdict(status);
  patch(region("pools"), pools(status, age));
  patch(region("exits-panel"), exitsView(exitsProps(status)));
  patch(region("letters-panel"), lettersView(lettersProps(status)));
  patch(region("about"), about(status, age));
}

function drawVerdict(status) {
  const found = concerns(status, state.exits.recent);
  const { level, text } = headline(found);
  patch(region("headline"), headlineView({ level, text }));
  patch(region("concerns"), concernList(found));
  document.title = level === "good" ? "preforkd" : `${text} | preforkd`;
}

function pools({ pools: all }, age) {
  const still = state.link.open && !state.link.silent ? age : 0; // clocks stand still while nothing is known
  return Object.entries(all).map(([name, pool]) =>
    poolView(name, pool, {
      age: still,
      rate: rates.of(name, performance.now()),
      wide: state.wide.has(name),
      widen: () => toggle(state.wide, name),
      actions: { run: actions.run, scale: actions.scale, reason: reason() },
    }),
  );
}

function toggle(set, name) {
  if (!set.delete(name)) set.add(name);
  draw();
}

// ---- exits ---------------------------------------------------------------------------------------------------------

function exitsProps(status) {
  const { all, opened, filter, records, series, error } = state.exits;
  const width = Math.max(240, region("exits-panel").clientWidth - 34);
  return {
    ...filter,
    all,
    toggleAll,
    opened,
    toggleRecord: (key) => toggle(opened, key),
    exits: records,
    series,
    error,
    width,
    pools: Object.keys(status.pools),
    filter: changeFilter,
  };
}

function toggleAll() {
  state.exits.all = !state.exits.all;
  draw();
}

function changeFilter(changes) {
  Object.assign(state.exits.filter, changes);
  loadExits();
  loadSeries();
}

async function loadExits() {
  const { pool, cause } = state.exits.filter;
  await load(`api/exits?${query({ pool, cause, limit: EXITS })}`, ({ exits }) => (state.exits.records = exits));
}

async function loadSeries() {
  const { minutes, pool } = state.exits.filter;
  await load(
    `api/exits/series?${query({ minutes, buckets: BUCKETS, pool })}`,
    (series) => (state.exits.series = series),
  );
  await load(`api/exits/series?${query({ minutes: LATELY, buckets: 1 })}`, ({ causes }) => {
    state.exits.recent = Object.fromEntries(Object.entries(causes).map(([name, [number]]) => [name, number]));
  });
}

async function load(path, take) {
  try {
    take(await get(path));
    state.exits.error = "";
  } catch (error) {
    state.exits.error = error.message;
  }
  draw();
}

function query(values) {
  return new URLSearchParams(Object.entries(values).filter(([, value]) => value !== ""));
}

let settling = 0;

function exitHappened(record) {
  const { pool, cause } = state.exits.filter;
  if ((pool && record.pool !== pool) || (cause && record.cause !== cause)) return;
  const known = state.exits.records.some(({ at, pid }) => at === record.at && pid === record.pid);
  if (!known) state.exits.records = [record, ...state.exits.records].slice(0, EXITS);
  settling ||= setTimeout(() => {
    settling = 0;
    loadSeries();
  }, SETTLE_MS);
}

// ---- messages given up ---------------------------------------------------------------------------------------------

function lettersProps({ pools: all }) {
  const names = Object.keys(all);
  if (!names.includes(state.letters.pool)) state.letters.pool = names[0] ?? "";
  return { ...state.letters, pools: names, reason: reason(), choose, look, mark, act };
}

function choose(changes) {
  Object.assign(state.letters, changes, { found: null, error: "", chosen: new Set() });
  draw();
}

async function look() {
  const { pool, kind } = state.letters;
  Object.assign(state.letters, { busy: true, error: "" });
  draw();
  try {
    const found = await get(`${poolPath(pool, "letters")}?${query({ kind, limit: LETTERS })}`);
    const ids = new Set(found.letters.map(({ id }) => id));
    if (pool === state.letters.pool && kind === state.letters.kind) {
      Object.assign(state.letters, { found, chosen: new Set([...state.letters.chosen].filter((id) => ids.has(id))) });
    }
  } catch (error) {
    state.letters.error = error.message;
  }
  state.letters.busy = false;
  draw();
}

function mark(ids, chosen) {
  for (const id of ids) state.letters.chosen[chosen ? "add" : "delete"](id);
  draw();
}

async function act(verb, ids) {
  const { pool, kind } = state.letters;
  if (await actions.letters(pool, kind, verb, ids)) await look();
}

// ---- who may act ---------------------------------------------------------------------------------------------------

function tokenChanged() {
  if (!state.link.open) restart();
  draw();
}

function forgetToken() {
  token.forget();
  draw();
}

// ---- life ----------------------------------------------------------------------------------------------------------

const EVENTS = {
  status: (status) => {
    Object.assign(state, { status, at: performance.now() });
    Object.assign(state.link, { silent: null, everOpen: true });
    rates.add(status, state.at);
  },
  exit: exitHappened,
  silent: (silent) => (state.link.silent = silent),
};

const restart = follow({
  open: () => {
    Object.assign(state.link, { open: true, lost: null, silent: null });
    loadExits();
    loadSeries();
  },
  lost: (error) => {
    Object.assign(state.link, { open: false, lost: error });
    if (error.status === 401) token.forget(); // there is none, or it is wrong
    draw();
  },
  event: (name, data) => {
    EVENTS[name]?.(data);
    draw();
  },
});

patch(region("patterns"), patterns());
new ResizeObserver(draw).observe(region("exits-panel"));
setInterval(() => document.hidden || draw(), 1000);
setInterval(() => document.hidden || !state.link.open || loadSeries(), 30_000);
draw();
