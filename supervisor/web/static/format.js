// Numbers, times and foreign text as people read them. Pure; text that comes from outside is made visible, not trusted.

const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
];

/** `850 ms`, `12.3 s`, `4 min 10 s`, `2 d 3 h`. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 1) return `${Number((seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0))} ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.floor(seconds)} s`;
  const index = UNITS.findIndex(([size]) => seconds >= size);
  const [size, unit] = UNITS[index];
  const [smaller, name] = UNITS[index + 1] ?? [1, "s"];
  const rest = Math.floor((seconds % size) / smaller);
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${name}` : ""}`;
}

/** `3.1 MiB`. */
export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = count > 0 ? Math.min(units.length - 1, Math.floor(Math.log2(count) / 10)) : 0;
  const value = count / 1024 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

/** `12,345`: the same everywhere, whatever the browser speaks. */
export function count(value) {
  return Math.round(value ?? 0).toLocaleString("en-US");
}

/** `41/s`, `0.3/s`. */
export function rate(perSecond) {
  return `${perSecond >= 10 || perSecond === 0 ? count(perSecond) : perSecond.toFixed(1)}/s`;
}

/** `one worker`, `3 workers`. */
export function plural(number, noun) {
  return `${number === 1 ? "one" : count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** The time of day here, to the second; with the date where that is not today's. */
export function clock(instant) {
  const date = new Date(instant);
  if (Number.isNaN(date.getTime())) return "–";
  const time = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}

/** `14:05`. */
export function minute(instant) {
  return new Date(instant).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}

const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Text from outside, cut to a length, with every character that would not be seen, or would turn others round, as \u….
 *  Line ends and tabs stay where `lines` is true. */
export function visible(text, limit = 200, lines = false) {
  const whole = String(text ?? "");
  const cut =
    whole.length > limit ? `${whole.slice(0, limit)}… (${count(whole.length - limit)} more characters)` : whole;
  return cut.replace(UNSEEN, (character) => (lines && "\n\t".includes(character) ? character : escaped(character)));
}

function escaped(character) {
  return `\\u{${character.codePointAt(0).toString(16)}}`;
}
