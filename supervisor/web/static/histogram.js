// How long handlers take: the buckets of `measures.handler_s` as bars, with quantiles in words and a table behind them.

import { h } from "./dom.js";
import { count, duration } from "./format.js";
import { table } from "./widgets.js";

const HEIGHT = 56;
const STEP = 16; // of a bar, with its gap; the drawing grows with the number of buckets
const QUANTILES = [0.5, 0.95, 0.99];

/** The mean, in words. */
export function meanTime(times) {
  return times?.count ? `${duration(times.sum / times.count)} mean` : "–";
}

/** A figure; null where nothing was handled yet. */
export function handlerTimes(times) {
  if (!times?.count) return null;
  const buckets = split(times);
  const words = QUANTILES.map((part) => `${Math.round(part * 100)} % ${within(quantile(buckets, part))}`).join(", ");
  return h(
    "figure",
    { class: "times" },
    h("figcaption", {}, h("h3", {}, "Handler times"), h("span", {}, words)),
    drawing(trimmed(buckets), words),
    h("details", {}, h("summary", {}, "As a table"), numbers(buckets)),
  );
}

/** `{from, to, number}` for each bucket; the last one is open. */
function split({ le: bounds, counts, count: total }) {
  const finite = bounds.map(Number);
  const known = counts.reduce((sum, number) => sum + number, 0);
  const open = counts.length > bounds.length ? counts.at(-1) : Math.max(0, total - known);
  return [...finite, Infinity].map((to, index) => ({
    from: finite[index - 1] ?? 0,
    to,
    number: index < finite.length ? counts[index] : open,
  }));
}

function quantile(buckets, part) {
  const total = buckets.reduce((sum, { number }) => sum + number, 0);
  let seen = 0;
  return buckets.find(({ number }) => (seen += number) >= part * total) ?? buckets.at(-1);
}

function within({ from, to }) {
  return to === Infinity ? `beyond ${duration(from)}` : `within ${duration(to)}`;
}

/** Without the empty buckets at both ends, but one on each side. */
function trimmed(buckets) {
  const used = buckets.map(({ number }) => number > 0);
  return buckets.slice(Math.max(0, used.indexOf(true) - 1), used.lastIndexOf(true) + 2);
}

function drawing(buckets, words) {
  const most = Math.max(...buckets.map(({ number }) => number), 1);
  const bars = buckets.map(({ number }, index) => {
    const height = number && Math.max(2, (HEIGHT * number) / most);
    return h("rect", { key: index, x: index * STEP, y: HEIGHT - height, width: STEP - 3, height });
  });
  const width = buckets.length * STEP;
  const size = { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT };
  return h(
    "div",
    { class: "drawing" },
    h(
      "svg",
      { ...size, role: "img", "aria-label": `Handler times: ${words}` },
      bars,
      h("path", { class: "axis", d: `M0 ${HEIGHT - 0.5}H${width}` }),
    ),
    h("p", { class: "ends", "aria-hidden": "true", style: { width: `${width}px` } }, ...ends(buckets)),
  );
}

function ends(buckets) {
  const { from, to } = { from: buckets[0].from, to: buckets.at(-1).to };
  return [
    h("span", {}, duration(from)),
    h("span", {}, to === Infinity ? `> ${duration(buckets.at(-1).from)}` : duration(to)),
  ];
}

function numbers(buckets) {
  const rows = buckets.map(({ from, to, number }) => ({
    key: to,
    cells: [to === Infinity ? `more than ${duration(from)}` : `up to ${duration(to)}`, count(number)],
  }));
  return table(
    "Messages by handler time",
    [
      ["time", ""],
      ["messages", "number"],
    ],
    rows,
  );
}
