// Exits over time by cause: stacked bars, each cause with a colour and a hatching of its own, a legend that counts, and
// the same as a table.

import { h } from "./dom.js";
import { CAUSES, cause, ordered, tone } from "./causes.js";
import { count, minute, plural, visible } from "./format.js";
import { scrolling } from "./widgets.js";

const HEIGHT = 150;
const MARGIN = { left: 30, right: 4, top: 8, bottom: 18 };
const LABEL_WIDTH = 70;
const UNKNOWN = "unknown";

/** The hatchings, once a page: every swatch and bar refers to them. */
export function patterns() {
  const names = [...Object.keys(CAUSES), UNKNOWN];
  return h("svg", { class: "patterns", width: 0, height: 0, "aria-hidden": "true" }, h("defs", {}, names.map(pattern)));
}

function pattern(name) {
  const { angle } = cause(name);
  const lines = angle === null ? null : h("path", { class: "hatch", d: "M0 3H6" });
  const size = { width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: `rotate(${angle ?? 0})` };
  return h(
    "pattern",
    { key: name, id: `fill-${name}`, class: tone(name), ...size },
    h("rect", { class: "tone", width: 6, height: 6 }),
    lines,
  );
}

const fill = (name) => `url(#fill-${CAUSES[name] ? name : UNKNOWN})`;

/** A small square in a cause's colour and hatching. */
export function swatch(name) {
  return h(
    "svg",
    { class: "swatch", width: 12, height: 12, "aria-hidden": "true" },
    h("rect", { width: 12, height: 12, fill: fill(name) }),
  );
}

/** The plot of `{from, bucket_s, causes}`, `width` pixels wide. */
export function plot(series, width) {
  const names = ordered(Object.keys(series.causes)).filter((name) => sum(series.causes[name]) > 0);
  if (names.length === 0) return h("p", { class: "empty" }, "No exits in this time.");
  const buckets = columns(series, names);
  return h(
    "figure",
    { class: "plot" },
    bars(buckets, names, width),
    legend(series, names),
    h("details", {}, h("summary", {}, "As a table"), numbers(buckets, names)),
  );
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}

/** `{at, counts: {cause: n}, total}` for each bucket. */
function columns({ from, bucket_s: seconds, causes }, names) {
  const start = new Date(from).getTime();
  return causes[names[0]].map((_, index) => {
    const counts = Object.fromEntries(names.map((name) => [name, causes[name][index] ?? 0]));
    return { at: start + index * seconds * 1000, counts, total: sum(Object.values(counts)) };
  });
}

// ---- the drawing ---------------------------------------------------------------------------------------------------

function bars(buckets, names, width) {
  const top = ceiling(Math.max(...buckets.map(({ total }) => total)));
  const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const step = inner.width / buckets.length;
  const stacks = buckets
    .filter(({ total }) => total > 0)
    .map((bucket) => {
      const x = MARGIN.left + buckets.indexOf(bucket) * step;
      return stack(bucket, names, { x, width: Math.max(1.5, step - Math.min(2, step / 4)), scale: inner.height / top });
    });
  const total = sum(buckets.map((bucket) => bucket.total));
  const causes = told(names, (name) => sum(buckets.map(({ counts }) => counts[name])));
  const label = `${plural(total, "exit")} since ${minute(buckets[0].at)}: ${causes}`;
  return h(
    "svg",
    { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label },
    grid(top, width),
    hours(buckets, step),
    stacks,
  );
}

function stack({ at, counts }, names, { x, width, scale }) {
  let y = HEIGHT - MARGIN.bottom;
  const parts = names
    .filter((name) => counts[name] > 0)
    .map((name) => {
      y -= counts[name] * scale;
      return h("rect", {
        key: name,
        class: "part",
        "data-cause": name,
        x: x.toFixed(1),
        y: y.toFixed(1),
        width: width.toFixed(1),
        height: (counts[name] * scale).toFixed(1),
        fill: fill(name),
      });
    });
  const present = names.filter((name) => counts[name] > 0);
  return h("g", { key: at }, h("title", {}, `${minute(at)}: ${told(present, (name) => counts[name])}`), parts);
}

function told(names, number) {
  return names.map((name) => `${count(number(name))} ${visible(cause(name).label, 40)}`).join(", ");
}

function ceiling(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return Math.max(2, [1, 2, 4, 6, 10].find((step) => step * power >= most) * power);
}

function grid(top, width) {
  return [0, top / 2, top].filter(Number.isInteger).map((value) => {
    const y = HEIGHT - MARGIN.bottom - ((HEIGHT - MARGIN.top - MARGIN.bottom) * value) / top + 0.5;
    const line = h("path", { class: "grid", d: `M${MARGIN.left} ${y}H${width - MARGIN.right}` });
    return h(
      "g",
      { key: `y${value}` },
      line,
      h("text", { x: MARGIN.left - 4, y: y + 4, "text-anchor": "end" }, count(value)),
    );
  });
}

function hours(buckets, step) {
  const every = Math.ceil(LABEL_WIDTH / step);
  return buckets
    .filter((_, index) => index % every === 0 && (buckets.length - index) * step > LABEL_WIDTH / 2)
    .map(({ at }, place) => {
      const x = MARGIN.left + place * every * step;
      return h("text", { key: at, x: x.toFixed(1), y: HEIGHT - 4 }, minute(at));
    });
}

// ---- words and numbers ---------------------------------------------------------------------------------------------

function legend({ causes }, names) {
  const items = names.map((name) =>
    h(
      "li",
      { key: name, "data-cause": name },
      swatch(name),
      ` ${visible(cause(name).label, 40)} `,
      h("b", {}, count(sum(causes[name]))),
    ),
  );
  return h("ul", { class: "legend" }, items);
}

function numbers(buckets, names) {
  const rows = buckets.filter(({ total }) => total > 0).reverse();
  const titles = [["from", ""], ...names.map((name) => [visible(cause(name).label, 40), "number"])];
  return scrolling(
    "Exits over time by cause",
    titles,
    rows.map(({ at, counts }) => ({ key: at, cells: [minute(at), ...names.map((name) => count(counts[name]))] })),
  );
}
