// The page: shows the dashboard of its address, and refreshes it.

import { coloursChanged, resetColours } from "./colours.js";
import { contextOf, pageLogs } from "./context.js";
import { byId, h, icon } from "./dom.js";
import { find, setUpFinder } from "./finder.js";
import { shown } from "./plain.js";
import { REFRESHES, address, change, onChange, range, start, state, zoom } from "./state.js";
import { setUpTheme } from "./themebutton.js";
import { QUICK, isRelative } from "./time.js";
import { setUpTimes, showTime } from "./timemenu.js";
import { BAR, viewOf } from "./views.js";
import { isNew } from "./why.js";

const RANGES = QUICK.filter(([from]) => from !== "all" && from !== "now-30d");
const refreshText = (seconds) => (seconds ? (seconds < 60 ? `${seconds} s` : `${seconds / 60} min`) : "Off");

let view = null,
  key = null;
let running = null; // the AbortController of the refresh that is under way
let timer = 0;
let early = false; // true while the store has hardly any samples
// Seconds between two refreshes during this time.
const EARLY_REFRESH = 5;

function parts() {
  return view ? view.sections.flatMap((section) => section.parts) : [];
}

/** Build the dashboard that the address names. */
function build() {
  for (const part of parts()) part.close();
  resetColours();
  view = viewOf(state.path);
  key = JSON.stringify(state.path);
  if (view?.part) view.part.again = () => refresh();
  const nothing = h(
    "section.panel.wide",
    {},
    h("div.message", {}, h("p", {}, "There is no such dashboard. "), h("a", { href: address([]) }, "Show the cluster")),
  );
  byId("view").replaceChildren(...(view ? view.sections.map(sectionOf) : [nothing]));
  byId("main").scrollTop = 0;
  title();
}

function sectionOf(section) {
  const grid = h("div.grid", {}, ...section.parts.map((part) => part.element));
  return h(
    "section.section",
    {},
    section.title ? h("h2", {}, section.title) : "",
    grid,
    section.none ? h("p.none.quiet", { hidden: true }, section.none) : "",
  );
}

let titled = "";

/**
 * Draw the title, the bar, and all links that keep the time range. Unchanged elements are kept, so that they keep the
 * focus.
 */
function title() {
  const name = view ? shown(view.title) : "Not found";
  const logs = view?.logs ? pageLogs(view.logs) : null;
  const made = JSON.stringify([state.path, address([]), logs]);
  if (made === titled) return;
  titled = made;
  document.title = `${name} – Dashboards`;
  byId("nav").replaceChildren(
    ...BAR.map(([path, text]) =>
      h(
        "a",
        { href: address(path ? [path] : []), "aria-current": (state.path[0] ?? "") === path ? "page" : null },
        text,
      ),
    ),
  );
  byId("title").replaceChildren(
    h(
      "div.names",
      {},
      view?.crumbs.length
        ? h(
            "p.crumbs",
            {},
            ...view.crumbs.flatMap(([text, href]) => [
              h("a", { href }, shown(text)),
              h("span", { "aria-hidden": "true" }, "/"),
            ]),
          )
        : "",
      h("h1", {}, name, view?.kind ? h("span.kind", {}, view.kind) : ""),
    ),
    h("span.gap", {}),
    logs
      ? h(
          "a.button",
          {
            id: "logs",
            href: logs,
            target: "_blank",
            rel: "noopener",
            title: "The lines of this time range in the log explorer",
          },
          icon("logs"),
          "Logs",
        )
      : "",
  );
  byId("refresh").value = String(state.refresh);
  byId("refresh").disabled = !isRelative(state.to);
  showTime(state);
}

/** Refresh all parts. quiet: true for an automatic refresh, which is not indicated. */
async function refresh({ quiet = false } = {}) {
  clearTimeout(timer);
  running?.abort();
  const { signal } = (running = new AbortController());
  if (!quiet) byId("page").setAttribute("aria-busy", "true");
  try {
    const context = await contextOf(signal);
    early = isNew(context.facts);
    title();
    await Promise.all(parts().map((part) => part.refresh(context)));
    sections();
    problem(null);
  } catch (error) {
    if (signal.aborted) return;
    problem(error);
  }
  byId("page").removeAttribute("aria-busy");
  plan();
}

/** Show a sentence in a section that has no visible parts. */
function sections() {
  [...byId("view").children].forEach((element) => {
    const none = element.querySelector(".none");
    if (!none) return;
    const all = [...element.querySelectorAll(".panel")].every((panel) => panel.hidden);
    none.hidden = !all;
  });
}

function problem(error) {
  byId("problem").hidden = !error;
  byId("problem-text").textContent = error ? error.message : "";
}

function plan() {
  clearTimeout(timer);
  if (state.refresh && isRelative(state.to))
    timer = setTimeout(
      () => (document.hidden ? plan() : refresh({ quiet: true })),
      (early ? Math.min(state.refresh, EARLY_REFRESH) : state.refresh) * 1000,
    );
}

/** Double the time range around its middle; a range that ends at the present still ends there. */
function wider() {
  const { from, to } = range(),
    span = to - from;
  if (!isRelative(state.to)) return zoom(from - span / 2, Math.min(Date.now(), to + span / 2));
  const minutes = Math.round((span * 2) / 60_000);
  change({ from: `now-${Math.max(1, Math.min(minutes, 900_000))}m` });
}

onChange((changed) => {
  if (JSON.stringify(state.path) !== key) build();
  else title();
  if (changed.size === 1 && changed.has("refresh")) plan();
  else refresh();
});

function setUpKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (document.querySelector("dialog[open], :popover-open")) return;
    const act = {
      "/": find,
      t: () => byId("time").click(),
      r: () => refresh(),
      o: wider,
      e: () => {
        window.location.hash = address(["explore"]);
      },
      "?": () => byId("keys").showModal(),
    }[event.key];
    if (!act) return;
    act();
    event.preventDefault();
  });
}

start();
byId("refresh").replaceChildren(...REFRESHES.map((seconds) => h("option", { value: seconds }, refreshText(seconds))));
byId("refresh").addEventListener("change", (event) => change({ refresh: Number(event.target.value) }));
byId("again").addEventListener("click", () => refresh());
byId("wider").addEventListener("click", wider);
byId("help").addEventListener("click", () => byId("keys").showModal());
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && state.refresh && isRelative(state.to)) refresh({ quiet: true });
});
setUpTimes({ state, change, quick: RANGES });
setUpTheme(coloursChanged);
setUpFinder();
setUpKeys();
build();
refresh();
