// The faults in the status object (docs/control-protocol.md) as a list, worst first. Pure.

import { CAUSES, cause, ordered } from "./causes.js";
import { duration, plural } from "./format.js";

/** Exits of the last so many minutes are listed beside the present faults; they do not change the headline. */
export const LATELY = 10;

const RANK = { bad: 0, warn: 1, note: 2, past: 3 };
const HEADLINES = { bad: "Needs attention", warn: "Worth a look", note: "In transition" };

const POOL_LEVELS = { held: "bad", degraded: "bad", paused: "warn", starting: "note", stopping: "note" };
const DAEMON_LEVELS = { starting: "note", reloading: "note", stopping: "warn" };
const CHILD_LEVELS = { held: "bad", backoff: "warn" };
const CONNECTION_LEVELS = { refused: "bad", closed: "bad", blocked: "bad", connecting: "warn" };
const LEDGER_FULL = 0.9;

/** The present faults, worst first: `{level, about, text}`; `about` names the pool, "" for the daemon.
 *  `recent`: how many exits of each cause there were lately, null while that is not known. */
export function concerns(status, recent = null) {
  const pools = Object.entries(status.pools ?? {});
  const found = [
    ...ofDaemon(status),
    ...(status.sidecars ?? []).flatMap(ofSidecar),
    ...pools.flatMap(ofPool),
    ...ofRecent(recent),
  ];
  return found.sort((a, b) => RANK[a.level] - RANK[b.level]);
}

/** The headline over them: short, and without figures that change every second. */
export function headline(found) {
  const level = found[0]?.level ?? "past";
  if (level === "past") return { level: "good", text: found.length > 0 ? "All is well now" : "All is well" };
  const about = new Set(
    found.filter((concern) => concern.level === level).map((concern) => concern.about || "the daemon"),
  );
  return { level, text: `${HEADLINES[level]}: ${[...about].join(", ")}` };
}

function ofDaemon({ state, reload }) {
  const level = DAEMON_LEVELS[state];
  if (!level) return [];
  const waits = reload?.waits_for?.length ? `, waits for ${reload.waits_for.slice(0, 5).join(", ")}` : "";
  const more = reload ? `: ${reload.stage} (requested by ${reload.requested_by})${waits}` : "";
  return [{ level, about: "", text: `the daemon is ${state}${more}` }];
}

function ofSidecar({ kind, state, why }) {
  return CHILD_LEVELS[state]
    ? [{ level: "warn", about: "", text: because(`the ${kind} process is ${state}`, why) }]
    : [];
}

function ofPool([about, pool]) {
  const found = [
    ...ofPoolState(pool),
    ...ofChildren(pool),
    ...ofConnection(pool),
    ...ofWorkers(pool),
    ...ofSymptoms(pool),
    ...ofLedger(pool),
  ];
  return found.map((concern) => ({ ...concern, about }));
}

function ofPoolState({ state, why, paused }) {
  const level = POOL_LEVELS[state];
  if (!level) return [];
  return [{ level, text: because(`the pool is ${state}${paused ? ` by ${paused.by}` : ""}`, why) }];
}

function ofChildren({ forkserver, consumer }) {
  return Object.entries({ forkserver, consumer })
    .filter(([, child]) => CHILD_LEVELS[child?.state])
    .map(([name, child]) => ({
      level: CHILD_LEVELS[child.state],
      text: because(`the ${name} is ${child.state}`, child.why),
    }));
}

function ofConnection({ state, consumer }) {
  const connection = consumer?.connection ?? {};
  const level = CONNECTION_LEVELS[connection.state];
  if (!level || state === "starting" || state === "stopping") return [];
  const since = Number.isFinite(connection.since_s) ? ` for ${duration(connection.since_s)}` : "";
  const text = `the connection to ${connection.host || "the broker"} is ${connection.state}${since}`;
  return [{ level, text: because(text, connection.why) }];
}

function ofWorkers({ workers }) {
  const counts = (state) => workers.filter((worker) => worker.state === state).length;
  const said = { held: "bad", backoff: "warn" };
  return Object.entries(said)
    .filter(([state]) => counts(state) > 0)
    .map(([state, level]) => ({
      level,
      text: `${plural(counts(state), "worker")} ${state === "held" ? "held" : "waiting for a replacement"}`,
    }));
}

/** Symptoms: no deliveries although messages wait, a shared queue … The one that degrades the pool may be its `why`. */
function ofSymptoms({ symptoms, why }) {
  const told = (symptoms ?? []).filter(({ text }) => text !== why);
  return told.map(({ text, degrades }) => ({ level: degrades ? "bad" : "warn", text }));
}

function ofLedger({ measures }) {
  const { rows, keep_max: most } = measures?.ledger ?? {};
  if (!most || rows < most * LEDGER_FULL) return [];
  return [
    {
      level: "warn",
      text: `the ledger holds ${Math.round((100 * rows) / most)} % of keep_max; older ids are forgotten early`,
    },
  ];
}

function ofRecent(recent) {
  const names = ordered(Object.keys(recent ?? {})).filter((name) => recent[name] > 0 && !CAUSES[name]?.calm);
  if (names.length === 0) return [];
  const told = names.map((name) => `${recent[name]} ${cause(name).label}`).join(", ");
  return [{ level: "past", about: "", text: `exits in the last ${LATELY} minutes: ${told}` }];
}

function because(text, why) {
  return why ? `${text}: ${why}` : text;
}
