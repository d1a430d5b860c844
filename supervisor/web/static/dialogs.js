// What is asked before something happens, and what is said afterwards.

import { h, patch } from "./dom.js";
import { visible } from "./format.js";

const SUCCESS_MS = 8000;

/** Ask; the value that was entered ("" without a field), or null when it was called off.
 *  `field`: `{label, type, value, min, max}`; `danger`: the way back has the focus. */
export function ask({ title, text, field, confirm, danger = false }) {
  const dialog = document.getElementById("dialog");
  return new Promise((resolve) => {
    let answer = null;
    const submit = (event) => {
      event.preventDefault(); // nothing is ever sent by the form itself
      answer = field ? dialog.querySelector("input").value.trim() : "";
      dialog.close();
    };
    dialog.onclose = () => {
      patch(dialog); // what was entered does not stay in the document
      resolve(answer);
    };
    patch(
      dialog,
      h(
        "form",
        { onsubmit: submit },
        h("h2", { id: "dialog-title" }, title),
        [text].flat().map((paragraph) => h("p", {}, paragraph)),
        field ? input(field) : null,
        h(
          "p",
          { class: "buttons" },
          h("button", { type: "button", class: "back", onclick: () => dialog.close() }, "Cancel"),
          h("button", { type: "submit", class: danger ? "danger" : "primary" }, confirm),
        ),
      ),
    );
    dialog.showModal();
    dialog.querySelector(danger ? ".back" : "input, .primary").focus();
  });
}

function input({ label, type, value = "", ...limits }) {
  return h("label", {}, `${label} `, h("input", { type, value, required: true, autocomplete: "off", ...limits }));
}

const toasts = [];
let number = 0;

/** Say what became of something: politely and for a while when it went well, at once and until dismissed when not. */
export function say(text, good = true) {
  const toast = { key: ++number, text: visible(text, 1000), good };
  toasts.push(toast);
  if (good) setTimeout(() => dismiss(toast), SUCCESS_MS);
  draw();
}

function dismiss(toast) {
  const index = toasts.indexOf(toast);
  if (index >= 0) toasts.splice(index, 1);
  draw();
}

function draw() {
  for (const [id, good] of [
    ["said", true],
    ["failed", false],
  ]) {
    const shown = toasts.filter((toast) => toast.good === good);
    patch(document.getElementById(id), shown.map(item));
  }
}

function item(toast) {
  const away = h("button", { type: "button", "aria-label": "Dismiss", onclick: () => dismiss(toast) }, "×");
  return h("p", { key: toast.key, class: `toast ${toast.good ? "good" : "bad"}` }, h("span", {}, toast.text), away);
}
