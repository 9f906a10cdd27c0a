// The menu of time ranges: frequent ranges, and a form for any two times.

import { byId, h, place } from "./dom.js";
import { QUICK, clockOf, dateOf, moment, rangeWords } from "./time.js";

const local = (ms) => `${dateOf(ms)}T${clockOf(ms)}`;

/** state: has `from` and `to`. change: called with new values. quick: [from, text] of the frequent ranges. */
export function setUpTimes({ state, change, quick = QUICK }) {
  const menu = byId("times"), button = byId("time");
  menu.addEventListener("beforetoggle", (event) => { if (event.newState === "open") fill(state, change, quick); });
  menu.addEventListener("toggle", (event) => {
    button.setAttribute("aria-expanded", String(event.newState === "open"));
    if (event.newState === "open") { place(menu, button); menu.querySelector('[aria-current="true"], button').focus(); }
  });
  menu.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const all = [...menu.querySelectorAll(".quick button")], at = all.indexOf(document.activeElement);
    if (!step || at < 0) return;
    all[(at + step + all.length) % all.length].focus();
    event.preventDefault();
  });
  byId("between").addEventListener("submit", (event) => {
    event.preventDefault();
    const [a, b] = [Date.parse(byId("from").value), Date.parse(byId("to").value)];
    const wrong = Number.isNaN(a) || Number.isNaN(b) ? "Both times are needed." : a >= b ? "The range must end after it begins." : "";
    byId("between-error").textContent = wrong;
    if (wrong) return;
    menu.hidePopover();
    change({ from: new Date(a).toISOString(), to: new Date(b).toISOString() });
  });
}

function fill(state, change, quick) {
  byId("quick").replaceChildren(...quick.map(([from, text]) => h("button", {
    type: "button", "aria-current": String(state.from === from && state.to === "now"),
    onclick: () => { byId("times").hidePopover(); byId("time").focus(); change({ from, to: "now" }); },
  }, text)));
  const now = Date.now(), from = state.from === "all" ? now - 86_400_000 : moment(state.from, now);
  byId("from").value = local(from);
  byId("to").value = local(moment(state.to, now));
  byId("between-error").textContent = "";
}

export function showTime(state) {
  byId("time-text").textContent = rangeWords(state.from, state.to);
}
