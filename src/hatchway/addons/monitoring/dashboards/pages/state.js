// The state of the page. It is in the page's address after "#": a link shows the same state, and servers do not get it.
// #/pods/NAMESPACE/NAME?from=now-1h&to=now&refresh=30

import { moment } from "./time.js";

export const REFRESHES = [0, 5, 15, 30, 60, 300];
const START = { from: "now-1h", to: "now", refresh: 30, q: "", table: false };
const LONGEST = 20_000;

/** path: the parts of the dashboard's name, decoded. q, table: of the page "explore". */
export const state = { path: [], ...START };

const hearers = [];
/** Call a function after each change, with the set of names that have changed. */
export const onChange = (hearer) => hearers.push(hearer);

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function read() {
  const hash = location.hash.slice(1);
  const at = hash.indexOf("?");
  const found = new URLSearchParams(at < 0 ? "" : hash.slice(at + 1));
  const made = {
    ...START,
    path: (at < 0 ? hash : hash.slice(0, at)).split("/").filter(Boolean).slice(0, 4).map(decoded),
  };
  const from = found.get("from") || START.from,
    to = found.get("to") || START.to,
    now = Date.now();
  if (moment(from, now) < moment(to, now)) [made.from, made.to] = [from, to];
  const refresh = Number(found.get("refresh") ?? START.refresh);
  if (REFRESHES.includes(refresh)) made.refresh = refresh;
  made.q = (found.get("q") || "").slice(0, LONGEST);
  made.table = found.get("table") === "yes";
  return made;
}

/** Return the address of a dashboard with the present time range. path: its parts. more: other parameters. */
export function address(path, more = {}) {
  const of = { ...state, q: "", table: false, ...more };
  const made = new URLSearchParams();
  if (of.from !== START.from || of.to !== START.to) {
    made.set("from", of.from);
    made.set("to", of.to);
  }
  if (of.refresh !== START.refresh) made.set("refresh", of.refresh);
  if (of.q) made.set("q", of.q);
  if (of.table) made.set("table", "yes");
  const query = `${made}`;
  return `#/${path.map(encodeURIComponent).join("/")}${query ? "?" + query : ""}`;
}

const own = (of) => address(of.path, of);

function changedNames(made) {
  return new Set(Object.keys(made).filter((name) => JSON.stringify(state[name]) !== JSON.stringify(made[name])));
}

function hear(changed) {
  if (changed.size) for (const hearer of hearers) hearer(changed);
}

/** Change the state; "Back" undoes the change. */
export function change(changes) {
  const changed = changedNames(changes);
  if (!changed.size) return;
  Object.assign(state, changes);
  history.pushState(null, "", own(state));
  hear(changed);
}

/** Set the time range, in milliseconds. */
export function zoom(from, to) {
  const end = Math.ceil(Math.max(to, from + 1000));
  change({ from: new Date(Math.floor(from)).toISOString(), to: new Date(end).toISOString() });
}

/** Return the ends of the time range, in milliseconds. */
export function range() {
  const now = Date.now();
  return { from: moment(state.from, now), to: moment(state.to, now) };
}

export function start() {
  Object.assign(state, read());
  const again = () => {
    const made = read(),
      changed = changedNames(made);
    Object.assign(state, made);
    hear(changed);
  };
  // Links change the hash; "Back" may change it without loading a page.
  window.addEventListener("hashchange", again);
  window.addEventListener("popstate", again);
}
