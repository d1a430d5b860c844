// The causes of exits (docs/exits.md) as they are shown: in the order of the stack, each with a colour and a hatching
// of its own (style.css, plot.js). Colours alone never tell anything: a label stands beside each.

/** `calm`: nothing went wrong. `angle`: of the hatching, null for a plain area. */
export const CAUSES = {
  crash: { label: "crash", angle: null },
  killed: { label: "killed", angle: 45 },
  timeout: { label: "timeout", angle: null },
  out_of_memory: { label: "out of memory", angle: 45 },
  memory_limit: { label: "memory limit", angle: 135 },
  boot_failed: { label: "boot failed", angle: 90 },
  unexpected_exit: { label: "unexpected exit", angle: null },
  stop_killed: { label: "stop killed", angle: 135 },
  lost: { label: "lost", angle: 0 },
  recycled: { label: "recycled", angle: null, calm: true },
  clean_stop: { label: "clean stop", angle: 45, calm: true },
};

const UNKNOWN = { label: "", angle: 90 };

/** How a cause is shown; one that this page does not know, too. */
export function cause(name) {
  return CAUSES[name] ?? { ...UNKNOWN, label: String(name) };
}

/** The class that colours it. */
export function tone(name) {
  return `cause-${CAUSES[name] ? name : "unknown"}`;
}

/** Names in the order of the stack. */
export function ordered(names) {
  const order = Object.keys(CAUSES);
  const place = (name) => (order.includes(name) ? order.indexOf(name) : order.length);
  return [...names].sort((a, b) => place(a) - place(b));
}
