// The stream of events (api/events), for as long as the page is open: it connects, reads, and connects again when it
// broke or fell silent. Read with fetch instead of EventSource, which could not send the token.

import { Refused, headers } from "./api.js";

const SILENCE_MS = 40_000; // the server writes a heartbeat every 15 s
const PAUSES_MS = [500, 1000, 2000, 5000]; // before each next attempt; the last one repeats

/** Follow the stream; `on` has `open()`, `lost(error)` and `event(name, data)`. Returns what restarts it at once. */
export function follow(on) {
  let failures = 0;
  let controller;
  let wake = () => {};
  const opened = () => {
    failures = 0;
    on.open();
  };
  const forever = async () => {
    for (;;) {
      controller = new AbortController();
      await connect(controller, opened, on.event).catch(on.lost);
      const pause = PAUSES_MS[Math.min(failures++, PAUSES_MS.length - 1)];
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, pause);
      });
    }
  };
  forever();
  return () => {
    controller.abort();
    wake();
  };
}

async function connect(controller, opened, event) {
  const quiet = setTimer(controller);
  try {
    const options = { headers: headers(), cache: "no-store", signal: controller.signal };
    const response = await fetch("api/events", options);
    if (!response.ok) throw await refusal(response);
    opened();
    await read(response.body, quiet, event);
  } finally {
    quiet.stop();
  }
  throw new Refused("the server ended the stream", 0);
}

async function refusal(response) {
  const answer = await response.json().catch(() => ({}));
  return new Refused(answer.error ?? `api/events: the server answered with status ${response.status}`, response.status);
}

async function read(stream, quiet, event) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    quiet.again();
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) tell(block, event);
  }
}

function tell(block, event) {
  const lines = block.split("\n").filter((line) => !line.startsWith(":"));
  const field = (name) =>
    lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart());
  const data = field("data").join("\n");
  if (data) event(field("event")[0] ?? "message", JSON.parse(data));
}

function setTimer(controller) {
  let timer;
  const stop = () => clearTimeout(timer);
  const again = () => {
    stop();
    timer = setTimeout(() => controller.abort(), SILENCE_MS);
  };
  again();
  return { stop, again };
}
