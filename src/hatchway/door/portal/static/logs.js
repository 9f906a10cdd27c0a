// Follows a container's log through the raw API on this origin. The pod's output becomes text nodes only.
"use strict";

// The most lines on the page, and the most characters of one line.
const MOST_LINES = 10_000, MOST_OF_A_LINE = 20_000;
// The most lines that wait to be displayed; then reading from the stream is paused.
const MOST_WAITING = 4000;
// In milliseconds: the first and the longest pause before another attempt; how long a hidden page keeps its connection;
// the time between two updates of the head.
const FIRST_WAIT = 1000, LAST_WAIT = 10_000, HIDDEN_FOR = 10_000, EVERY = 10_000;

const el = (id) => document.getElementById(id);
const box = el("log"), form = el("controls"), choice = el("container"), previous = el("previous"), times = el("times");
const { log: logPath, pod: podPath, tail } = form.dataset;

let run = null; // the AbortController of the current `follow`
let last = ""; // the time of the last line, padded so that times can be compared as texts
let lastCount = 0; // lines with that time
let stick = true; // whether the page scrolls to each new line
let dropped = 0; // lines that were removed at the beginning

const padded = (time) => time.replace(/(?:\.(\d+))?Z$/, (_, digits = "") => "." + digits.padEnd(9, "0") + "Z");

/** Return text without terminal colours, without text that a carriage return has overwritten, and without other control characters. */
function plain(text) {
  if (text.length > MOST_OF_A_LINE) text = text.slice(0, MOST_OF_A_LINE) + ` … (${text.length - MOST_OF_A_LINE} more characters)`;
  text = text.replace(/\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g, "").replace(/\r+$/, "");
  const over = text.lastIndexOf("\r");
  return (over < 0 ? text : text.slice(over + 1)).replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "\ufffd");
}

function lineOf(text) {
  const space = text.indexOf(" ");
  const time = space > 0 ? text.slice(0, space) : text;
  if (!/^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$/.test(time)) return { time: "", text };
  return { time, text: space > 0 ? text.slice(space + 1) : "" };
}

let waiting = [];
let drawn = null; // called when the waiting lines have been displayed

function draw() {
  const made = document.createDocumentFragment();
  for (const { time, text } of waiting) made.append(h("p", {}, time && h("time", { datetime: time }, time.slice(0, 23).replace("T", " ")), plain(text)));
  waiting = [];
  box.append(made);
  for (let over = box.childElementCount - MOST_LINES; over > 0; over--, dropped++) box.firstElementChild.remove();
  if (stick) box.scrollTop = box.scrollHeight;
  else el("end").hidden = false;
  note();
  drawn?.();
  drawn = null;
}

function add(text) {
  const line = lineOf(text);
  if (line.time) {
    const time = padded(line.time);
    // After an interruption, the server begins again at the last line's time, rounded down to a whole second: skip the
    // lines that are displayed already.
    if (time < last) return;
    if (time === last) {
      if (skip > 0) { skip--; return; }
      lastCount++;
    } else { last = time; lastCount = 1; skip = 0; }
  }
  if (!waiting.length) requestAnimationFrame(draw);
  waiting.push(line);
}
let skip = 0; // lines with the time `last` that are displayed already

/** Add a remark of this page, which is not part of the log, after the lines. */
function remark(text) {
  if (waiting.length) draw();
  if (box.lastElementChild?.classList.contains("door") && box.lastElementChild.textContent === text) return;
  box.append(h("p.door", {}, text));
  if (stick) box.scrollTop = box.scrollHeight;
}

function note() {
  const count = box.querySelectorAll("p:not(.door)").length;
  el("note").textContent = count ? `${count} line${count === 1 ? "" : "s"}${dropped ? `; ${dropped} earlier lines were removed` : ""}` : "";
}

function show(state, text) {
  el("how-dot").className = "dot " + state;
  if (el("how-text").textContent !== text) el("how-text").textContent = text;
}

const pause = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); });
});

/** Read one answer to its end. Returns true when there was a line; throws an Error with the server's message. */
async function read(signal, query) {
  const answer = await fetch(`${logPath}?${query}`, { signal, cache: "no-store", headers: { accept: "text/plain, */*" } });
  if (!answer.ok) {
    const said = await answer.text();
    let message = said;
    try { message = JSON.parse(said).message || said; } catch { /* The answer is text, not a Status. */ }
    throw Object.assign(new Error(message.trim().slice(0, 600) || `status ${answer.status}`), { status: answer.status });
  }
  if (!answer.body) return false;
  if (query.has("follow")) show("live", "Live");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", any = false;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    any = true;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    if (rest.length > 4 * MOST_OF_A_LINE) { lines.push(rest); rest = ""; }
    for (const line of lines) {
      add(line);
      if (waiting.length > MOST_WAITING) await new Promise((resolve) => { drawn = resolve; });
    }
    if (signal.aborted) break;
  }
  if (rest && !signal.aborted) add(rest);
  return any;
}

/** Return the container's present state: {state: "running" | "waiting" | "terminated" | "gone" | "unknown", text}. */
async function how(signal, container) {
  const answer = await fetch(podPath, { signal, cache: "no-store", headers: { accept: "application/json" } });
  if (answer.status === 404) return { state: "gone", text: "The pod is gone." };
  if (!answer.ok) return { state: "unknown", text: `The pod cannot be read (status ${answer.status}).` };
  const { status = {} } = await answer.json();
  const all = [...(status.initContainerStatuses || []), ...(status.containerStatuses || []), ...(status.ephemeralContainerStatuses || [])];
  const found = all.find((one) => one.name === container);
  if (found) previous.disabled = !found.restartCount && !previous.checked;
  const { running, terminated, waiting: waits } = found?.state || {};
  if (running) return { state: "running", text: "" };
  if (terminated) return { state: "terminated", text: `The container has ended${terminated.exitCode ? ` with exit code ${terminated.exitCode}` : ""}${terminated.reason ? ` (${terminated.reason})` : ""}.` };
  return { state: "waiting", text: `The container has not started yet${waits?.reason ? `: ${waits.reason}` : ""}.` };
}

async function follow() {
  run?.abort();
  const { signal } = (run = new AbortController());
  const container = choice.value;
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    let failure = null;
    try {
      show("connecting", last ? "Trying again" : "Connecting");
      const query = new URLSearchParams({ container, timestamps: "true" });
      if (previous.checked) query.set("previous", "true");
      else query.set("follow", "true");
      if (last) {
        query.set("sinceTime", last.replace(/\.\d+Z$/, "Z"));
        skip = lastCount;
      } else query.set("tailLines", tail);
      if (await read(signal, query)) wait = FIRST_WAIT;
    } catch (error) {
      if (signal.aborted) return;
      failure = error;
    }
    if (signal.aborted) return;
    if (waiting.length) draw();
    if (previous.checked) {
      if (failure) { show("down", "Not available"); remark(failure.message); } else show("empty", "Previous run: ended");
      return;
    }
    let now = { state: "unknown", text: failure?.message || "" };
    try {
      now = await how(signal, container);
    } catch {
      if (signal.aborted) return;
      now.text = "The door does not answer.";
    }
    if (signal.aborted) return;
    if (failure?.status === 403) { show("down", "Forbidden"); remark(failure.message); return; }
    if (now.state === "gone") { show("empty", "Gone"); remark(now.text); showDeleted(); return; }
    // The log may have ended because the pod's state has changed.
    await bringHeadUpToDate();
    if (signal.aborted) return;
    if (now.state === "terminated") { show("empty", "Ended"); remark(now.text); }
    else if (now.state === "waiting") { show("partly", "Waiting"); remark(now.text); }
    else if (failure || now.text) { show("down", "Trying again"); remark(failure?.message || now.text); }
    // The container may be started again, so try again after a pause.
    await pause(wait, signal);
    wait = Math.min(wait * 1.6, LAST_WAIT);
  }
}

async function bringHeadUpToDate() {
  if (!document.hidden && (await takeOver(["state", "reasons"])) === 404) showDeleted();
}

function startOver() {
  waiting = [];
  box.replaceChildren();
  last = "";
  lastCount = skip = dropped = 0;
  stick = true;
  el("end").hidden = true;
  el("plain").href = `${logPath}?${new URLSearchParams({ container: choice.value, ...(previous.checked && { previous: "true" }), tailLines: tail })}`;
  history.replaceState(null, "", `?${new URLSearchParams({ container: choice.value })}`);
  note();
  follow();
}

choice.addEventListener("change", () => { previous.checked = false; allowPrevious(); startOver(); });
previous.addEventListener("change", startOver);
times.addEventListener("change", () => box.classList.toggle("times", times.checked));
form.addEventListener("submit", (event) => event.preventDefault());
box.addEventListener("scroll", () => {
  stick = box.scrollTop + box.clientHeight >= box.scrollHeight - 4;
  if (stick) el("end").hidden = true;
}, { passive: true });
el("end").addEventListener("click", () => { stick = true; box.scrollTop = box.scrollHeight; el("end").hidden = true; });

/** Allow the choice "previous run" only if the chosen container has run before. */
function allowPrevious() {
  previous.disabled = choice.selectedOptions[0]?.dataset.again === undefined;
}

// A browser opens at most six connections to an origin, so hidden tabs close theirs.
let timer = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (document.hidden) timer = setTimeout(() => { run?.abort(); run = null; show("empty", "Paused"); }, HIDDEN_FOR);
  else if (!run) follow();
});

// The pod's state may change while its log continues: it may become unready.
setInterval(bringHeadUpToDate, EVERY);
times.checked = previous.checked = false;
allowPrevious();
startOver();
