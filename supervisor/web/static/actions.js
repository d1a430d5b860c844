// What an operator can do from here. Every action needs the token; what cannot be taken back is asked about first; what
// became of it is said in words.

import { poolPath, post, token } from "./api.js";
import { ask, say } from "./dialogs.js";
import { plural, visible } from "./format.js";

const NEEDED = "This action needs the token: enter it above.";
const LISTED = 5; // ids that a question names one by one

/** Why nothing can be done now; "" when it can. */
export function reason() {
  return token.get() ? "" : NEEDED;
}

/** The actions; `changed()` is called when the page should be drawn again. */
export function makeActions(changed) {
  const perform = async (path, body, told) => {
    if (!token.get() && !(await enterToken(changed))) return null;
    try {
      const answer = await post(path, body);
      say(told(answer));
      return answer;
    } catch (error) {
      if (error.status === 401) token.forget();
      say(error.status === 401 ? `${error.message} (the token was forgotten; enter it again)` : error.message, false);
      return null;
    } finally {
      changed();
    }
  };
  return {
    run: (pool, verb) =>
      perform(
        poolPath(pool, verb),
        {},
        ({ changed: done }) => `${pool}: ${done ? DONE[verb] : `was ${DONE[verb]} already`}`,
      ),
    retry: (pool) =>
      perform(poolPath(pool, "retry"), {}, ({ tried }) =>
        tried.length > 0 ? `${pool}: trying ${tried.join(", ")}` : `${pool}: nothing waits to be tried again`,
      ),
    scale: (pool, now) => scale(pool, now, perform),
    reload: () => reload(perform),
    letters: (pool, kind, verb, ids) => letters({ pool, kind, verb, ids }, perform),
    enterToken: () => enterToken(changed),
  };
}

const DONE = { pause: "paused", resume: "running" };

async function enterToken(changed) {
  const value = await ask({
    title: "Token",
    text: "The content of the file in [web] token_file. Only this tab keeps it.",
    field: { label: "Token", type: "password" },
    confirm: "Use it",
  });
  if (value) token.set(value);
  changed();
  return Boolean(value);
}

async function scale(pool, { wanted }, perform) {
  if (!token.get()) return perform(poolPath(pool, "scale"), {}, String);
  const text = `${pool} wants ${plural(wanted, "worker")} now. The new number counts until the next reload or restart.`;
  const field = { label: "Workers", type: "number", value: String(wanted), min: 1, max: 10000 };
  const workers = await ask({ title: `Scale ${visible(pool, 60)}`, text, field, confirm: "Scale" });
  if (workers === null || (Number(workers) < wanted && !(await confirmFewer(pool, wanted, Number(workers)))))
    return null;
  return perform(
    poolPath(pool, "scale"),
    { workers: Number(workers) },
    (answer) => `${pool}: ${plural(answer.workers, "worker")} instead of ${answer.former}`,
  );
}

function confirmFewer(pool, wanted, workers) {
  if (workers * 2 > wanted) return true;
  const left = `That leaves ${pool} with ${plural(workers, "worker")} instead of ${wanted}.`;
  const text = `${left} Those that are busy finish their message first.`;
  return ask({ title: "Stop so many workers?", text, confirm: `Scale to ${workers}`, danger: true }).then(
    (answer) => answer !== null,
  );
}

async function reload(perform) {
  const text = [
    "The daemon reads the configuration again, imports the handlers again, and replaces the workers one after another.",
    "If the configuration or the code is bad, nothing changes.",
  ];
  if (token.get() && (await ask({ title: "Reload the daemon?", text, confirm: "Reload" })) === null) return null;
  return perform("api/reload", {}, (answer) => (answer.reloading ? "Reload is under way." : "Reloaded."));
}

async function letters({ pool, kind, verb, ids }, perform) {
  if (verb === "drop" && token.get() && !(await confirmDrop(pool, kind, ids))) return null;
  const done = verb === "drop" ? "deleted" : `moved back to ${pool}`;
  return perform(poolPath(pool, "letters", verb), { kind, ids }, ({ moved, dropped, missing = [] }) => {
    const lost = missing.length > 0 ? `; ${plural(missing.length, "message")} not found any more` : "";
    return `${plural(moved ?? dropped, "message")} ${done}${lost}.`;
  });
}

async function confirmDrop(pool, kind, ids) {
  const names = ids.slice(0, LISTED).map((id) => visible(id, 80));
  const more = ids.length > LISTED ? ` and ${plural(ids.length - LISTED, "other")}` : "";
  const text = [
    `This deletes ${plural(ids.length, `${kind} message`)} of ${pool} for good:`,
    `${names.join(", ")}${more}`,
  ];
  return (await ask({ title: "Drop for good?", text, confirm: "Drop", danger: true })) !== null;
}
