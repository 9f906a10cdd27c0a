// The page: searches for the lines that the state describes, and shows them.

import { showContext } from "./context.js";
import { byId } from "./dom.js";
import { search } from "./elastic.js";
import { setUpExport } from "./export.js";
import { facetRequest, includedFields, showChips, showFacets } from "./facets.js";
import { FIELDS, NONE } from "./fields.js";
import { Histogram } from "./histogram.js";
import { LineList, head } from "./lines.js";
import { LiveTail } from "./live.js";
import { setUpMenus } from "./menus.js";
import { marks, query } from "./query.js";
import { change, onChange, start, state } from "./state.js";
import { count, lines } from "./text.js";
import { interval, isRelative, moment } from "./time.js";
import { setUpTimes, showTime } from "./timemenu.js";

const PAGE = 200, WINDOW = 10_000;
const TYPING = 180;
const SORT = [{ "@timestamp": "desc" }, { _doc: "desc" }];

const list = new LineList(byId("list"), { context: (hit) => showContext(hit) });
const chart = new Histogram(byId("histogram"), (from, to) => change({ from: new Date(Math.floor(from)).toISOString(), to: new Date(Math.ceil(Math.max(to, from + 1))).toISOString() }));
const live = new LiveTail(list, byId("scroll"), { range, sort: SORT, totals: () => refresh({ quiet: true }) });

let running = null;   // the AbortController of the present search
let shown = { total: 0, from: 0, to: 0 };
let loadingMore = false;

/** Return the two ends of the time range, in milliseconds. "All lines" begins with the oldest line. */
async function range(signal) {
  const now = Date.now();
  if (state.from !== "all") return { from: moment(state.from, now), to: moment(state.to, now) + (isRelative(state.to) ? 1 : 0) };
  const oldest = await search({ size: 1, _source: ["@timestamp"], sort: [{ "@timestamp": "asc" }], track_total_hits: false, query: { exists: { field: "@timestamp" } } }, signal);
  const first = Date.parse(oldest.hits.hits[0]?._source["@timestamp"]);
  return { from: Number.isNaN(first) ? now - 3_600_000 : first, to: Math.max(now, first + 1 || 0) + 1 };
}

const byField = () => ({ terms: { field: FIELDS[state.by].exact, size: 10, ...(state.by === "level" && { missing: NONE }) } });
/** Search again. quiet: only update the histogram and the counts, and leave the list (for live). */
async function refresh({ quiet = false } = {}) {
  running?.abort();
  const { signal } = (running = new AbortController());
  const begun = performance.now();
  if (!quiet) byId("page").setAttribute("aria-busy", "true");
  try {
    const { from, to } = await range(signal);
    const step = interval(from, to, chart.most);
    const answers = await Promise.all([
      search({
        query: query(state, from, to), size: quiet ? 0 : PAGE, sort: SORT, track_total_hits: true,
        aggs: {
          time: { date_histogram: { field: "@timestamp", fixed_interval: step.text, offset: `${step.offset}ms`, min_doc_count: 1 }, aggs: { by: byField() } },
          ...facetRequest(),
        },
      }, signal),
      ...includedFields().map((name) => search({ query: query(state, from, to, name), size: 0, aggs: facetRequest([name]) }, signal)),
    ]);
    const [{ hits, aggregations, _shards }] = answers;
    const first = Math.floor((from - step.offset) / step.ms) * step.ms + step.offset;
    shown = { total: hits.total.value, from, to };
    chart.show(aggregations.time.buckets, { from, to, ms: step.ms, first }, state.by);
    showFacets(Object.assign({}, ...answers.map((answer) => answer.aggregations)));
    if (!quiet) {
      list.pattern = marks(state.q);
      list.clear();
      list.add(hits.hits);
      byId("scroll").scrollTop = 0;
      if (state.open) list.open(state.open);
      live.reset();
    }
    explain(performance.now() - begun, _shards);
    problem(null);
  } catch (error) {
    if (error.name === "AbortError") return;
    problem(error);
  }
  if (running?.signal === signal) byId("page").removeAttribute("aria-busy");
}

function explain(took, shards) {
  byId("total").textContent = lines(shown.total);
  byId("took").textContent = shards.failed ? `without ${shards.failed} older ${shards.failed === 1 ? "index" : "indices"} in the counts` : `${Math.round(took)} ms`;
  const none = shown.total === 0 && !list.size;
  byId("empty").hidden = !none;
  byId("head").hidden = none;
  if (none) {
    const narrowed = state.q || state.filters.length;
    byId("empty-text").textContent = narrowed ? "No line matches in this time range." : "No line was written in this time range.";
    byId("empty-all").hidden = state.from === "all";
    byId("empty-clear").hidden = !narrowed;
  }
  end();
}

function end() {
  const all = list.size >= shown.total, bounded = list.size >= WINDOW;
  byId("end").textContent = !shown.total ? "" : bounded && !all ? `The newest ${count(WINDOW)} of ${lines(shown.total)}. Choose a shorter time range to see others.` : all ? "" : "Loading more lines";
}

/** Show an error; below the search if it is about the search's text. */
function problem(error) {
  const box = byId("problem");
  box.hidden = !error;
  byId("page").classList.toggle("stale", Boolean(error));
  byId("q").setAttribute("aria-invalid", String(Boolean(error)));
  if (!error) return;
  const column = error.column;
  byId("where").textContent = column === null || column === undefined || !state.q ? "" : `${state.q.slice(Math.max(0, column - 40), column)}▸${state.q.slice(column, column + 30)}`;
  byId("problem-text").textContent = error.message;
  byId("total").textContent = "";
  byId("took").textContent = "";
}

async function more() {
  if (loadingMore || live.on || list.size >= Math.min(shown.total, WINDOW)) return;
  loadingMore = true;
  const { signal } = running;
  try {
    const { hits } = await search({ query: query(state, shown.from, shown.to), from: list.size, size: Math.min(PAGE * 2, WINDOW - list.size), sort: SORT, track_total_hits: false }, signal);
    if (!signal.aborted) { list.add(hits.hits); end(); requestAnimationFrame(nearEnd); }
  } catch (error) {
    if (error.name !== "AbortError") problem(error);
  } finally {
    loadingMore = false;
  }
}

/** Load more lines when the end of the list is near. */
function nearEnd() {
  const box = byId("scroll");
  if (box.scrollTop + box.clientHeight > box.scrollHeight - 1200) more();
}

function showSettings() {
  const page = byId("page");
  page.classList.toggle("unwrapped", !state.wrap);
  page.style.setProperty("--columns", state.columns.length);
  page.dataset.columns = state.columns.length;
  head(state.columns);
  byId("wrap").setAttribute("aria-pressed", String(state.wrap));
  for (const one of document.querySelectorAll("[data-by]")) one.setAttribute("aria-pressed", String(one.dataset.by === state.by));
}

let typing = 0;
onChange((changed) => {
  const input = byId("q");
  if (changed.has("q") && input.value !== state.q) input.value = state.q;
  showTime(state);
  showChips();
  showSettings();
  live.possible(isRelative(state.to));
  clearTimeout(typing);
  if (["q", "from", "to", "filters", "by"].some((name) => changed.has(name))) refresh();
  else if (changed.has("columns")) list.redraw(list.pattern);
});

function setUpSearch() {
  const input = byId("q");
  input.value = state.q;
  input.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => change({ q: input.value }, { typing: true }), TYPING);
  });
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    if (input.value === state.q) refresh();
    else change({ q: input.value }, { typing: true });
  });
}

function setUpKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inField = event.target.closest("input, textarea, select");
    if (inField) {
      if (event.key === "Escape") { inField.blur(); byId("scroll").focus({ preventScroll: true }); }
      if (event.key === "ArrowDown" && inField === byId("q")) { list.step(1); event.preventDefault(); }
      return;
    }
    if (document.querySelector("dialog[open], :popover-open")) return;
    const inList = !event.target.closest("button, summary, .chart") || ["j", "k"].includes(event.key);
    const act = { "/": () => byId("q").select(), l: () => live.toggle(), w: () => byId("wrap").click(), t: () => byId("time").click(), r: () => refresh(), "?": () => byId("keys").showModal() }[event.key];
    if (act) act();
    else if (!inList || !list.key(event)) return;
    event.preventDefault();
  });
}

start();
setUpSearch();
setUpTimes({ state, change });
setUpKeys();
setUpMenus();
setUpExport(() => ({ ...shown, query: query(state, shown.from, shown.to) }));
byId("wrap").addEventListener("click", () => change({ wrap: !state.wrap }));
byId("again").addEventListener("click", () => refresh());
byId("live").addEventListener("click", () => live.toggle());
byId("empty-all").addEventListener("click", () => change({ from: "all", to: "now" }));
byId("empty-clear").addEventListener("click", () => change({ q: "", filters: [] }));
for (const one of document.querySelectorAll("[data-by]")) one.addEventListener("click", () => change({ by: one.dataset.by }));
byId("scroll").addEventListener("scroll", nearEnd, { passive: true });
showTime(state);
showChips();
showSettings();
live.possible(isRelative(state.to));
refresh();
