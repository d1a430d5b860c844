// The first lines of the page: is all well, and if not, what; how old that is; and who may act.

import { h } from "./dom.js";
import { duration, visible } from "./format.js";
import { button, fact, foreign, mark, time } from "./widgets.js";

const STALE_S = 5;
const MANY = 8; // concerns that are listed

/** The headline, for `#headline`: its text is read out when it changes. */
export function headlineView({ level, text }) {
  return [
    h("span", { class: `light ${level}`, "aria-hidden": "true" }, mark(level)),
    h("span", { class: "words" }, visible(text, 300)),
  ];
}

/** What is not well, and the way to it. */
export function concernList(found) {
  const items = found.slice(0, MANY).map(({ level, about, text }) => {
    const href = level === "past" ? "#exits" : about && `#pool-${encodeURIComponent(about)}`;
    const name = level === "past" ? "lately" : about ? foreign(about, 60) : "daemon";
    return h(
      "li",
      { key: `${about} ${text.slice(0, 24)}`, class: level },
      mark(level),
      " ",
      href ? h("a", { href }, name) : name,
      ": ",
      foreign(text, 400),
    );
  });
  const more = found.length > MANY ? h("li", { key: "more" }, `and ${found.length - MANY} more`) : null;
  return found.length > 0 ? h("ul", { class: "concerns" }, items, more) : null;
}

/** Whether what is shown is what is. */
export function freshness({ open, silent }, ageS) {
  const live = open && !silent;
  const old = ageS > STALE_S && !live ? `, ${duration(ageS)} old` : "";
  return h(
    "span",
    { class: `fresh ${live ? "good" : "bad"}` },
    h("span", { class: "dot", "aria-hidden": "true" }),
    live ? "live" : `not live${old}`,
  );
}

/** Why nothing new comes, or null. The age is not read out every second. */
export function banner({ open, lost, silent, everOpen }, ageS) {
  const old = h("span", { "aria-hidden": "true" }, everOpen ? ` What you see is ${duration(ageS)} old.` : "");
  if (silent) return h("p", { class: "banner" }, foreign(silent.error, 400), " (since ", time(silent.since), ")", old);
  if (open || !lost) return null;
  if (lost.status === 401) return h("p", { class: "banner" }, "Locked: reading needs the token here. Enter it above.");
  return h("p", { class: "banner" }, "No connection: ", foreign(lost.message, 400), ". Trying again.", old);
}

/** What can be done about the daemon as a whole. */
export function tools(hasToken, reason, actions) {
  return [
    button("Reload…", actions.reload, { why: reason }),
    hasToken
      ? button("Forget token", actions.forgetToken, { name: "Forget the token: actions are locked again" })
      : button("Enter token", actions.enterToken, { kind: "primary", name: "Enter the token that allows actions" }),
  ];
}

/** Facts for the end of the page. */
export function about(status, ageS) {
  const sidecars = status.sidecars ?? [];
  return h(
    "dl",
    { class: "facts" },
    fact("preforkd", visible(status.version, 40)),
    fact("master's pid", status.pid),
    fact("state", visible(status.state, 40)),
    fact("up", duration(status.uptime_s + ageS)),
    fact("configuration", foreign(status.config || "none", 300)),
    fact("state directory", foreign(status.state_dir, 300)),
    ...sidecars.map(({ kind, state, pid }) => fact(`${kind} process`, `${state}${pid ? `, pid ${pid}` : ""}`)),
  );
}
