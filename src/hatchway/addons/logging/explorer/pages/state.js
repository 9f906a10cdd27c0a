// The state of the page. It is in the page's address after "#": a link shows the same state, and servers do not get it.

import { FIELDS } from "./fields.js";
import { moment } from "./time.js";

// open: the line that a link opens, until the next search.
const START = { q: "", from: "now-1h", to: "now", by: "level", wrap: true, filters: [], columns: ["pod"], open: "" };

export const state = structuredClone(START);

const hearers = [];
/** Call a function after each change, with the set of names that have changed. */
export const onChange = (hearer) => hearers.push(hearer);

const isColumn = (name) => (name !== "level" && Object.hasOwn(FIELDS, name)) || /^json:./.test(name);

/** Set the state from the address. */
function read() {
  const found = new URLSearchParams(location.hash.slice(1));
  const made = structuredClone(START);
  made.q = (found.get("q") || "").slice(0, 8000);
  const from = found.get("from") || START.from, to = found.get("to") || START.to, now = Date.now();
  if (from === "all" || moment(from, now) < moment(to, now)) [made.from, made.to] = [from, from === "all" ? "now" : to];
  if (["level", "namespace"].includes(found.get("by"))) made.by = found.get("by");
  made.open = (found.get("open") || "").slice(0, 800);
  made.wrap = found.get("wrap") !== "no";
  if (found.has("columns")) made.columns = [...new Set(found.get("columns").split(","))].filter(isColumn).slice(0, 12);
  for (const text of found.getAll("f").slice(0, 50)) {
    const match = /^([+-])([a-z]+)=(.+)$/s.exec(text);
    if (match && Object.hasOwn(FIELDS, match[2])) made.filters.push({ field: match[2], value: match[3], not: match[1] === "-" });
  }
  return made;
}

/** Return the address of a state. */
export function address(of = state) {
  const made = new URLSearchParams();
  if (of.q) made.set("q", of.q);
  if (of.from !== START.from || of.to !== START.to) made.set("from", of.from);
  if (of.to !== START.to) made.set("to", of.to);
  for (const { field, value, not } of of.filters) made.append("f", `${not ? "-" : "+"}${field}=${value}`);
  if (of.by !== START.by) made.set("by", of.by);
  if (!of.wrap) made.set("wrap", "no");
  if (of.columns.join() !== START.columns.join()) made.set("columns", of.columns.join(","));
  if (of.open) made.set("open", of.open);
  return `#${made}`;
}

/** Change the state. A text that is being typed replaces the address; other changes can be undone with "Back". */
export function change(changes, { typing = false } = {}) {
  const before = address();
  if (["q", "from", "to", "filters"].some((name) => name in changes)) changes = { open: "", ...changes };
  const changed = new Set(Object.keys(changes).filter((name) => JSON.stringify(state[name]) !== JSON.stringify(changes[name])));
  Object.assign(state, changes);
  if (address() !== before) history[typing ? "replaceState" : "pushState"](null, "", address());
  if (changed.size) for (const hearer of hearers) hearer(changed);
}

/** Include or exclude a value; a second call with the same arguments undoes it. */
export function filter(field, value, not) {
  const same = (one) => one.field === field && one.value === value;
  const known = state.filters.find(same);
  const rest = state.filters.filter((one) => !same(one));
  change({ filters: known && known.not === not ? rest : [...rest, { field, value, not }] });
}

export function toggleColumn(name) {
  const columns = state.columns.includes(name) ? state.columns.filter((one) => one !== name) : [...state.columns, name];
  change({ columns: columns.slice(0, 12) });
}

export function start() {
  Object.assign(state, read());
  window.addEventListener("popstate", () => {
    const found = read();
    const changed = new Set(Object.keys(found).filter((name) => JSON.stringify(state[name]) !== JSON.stringify(found[name])));
    Object.assign(state, found);
    if (changed.size) for (const hearer of hearers) hearer(changed);
  });
}
