// The known items, and the list of them: rows, search, and texts in place of an empty list.
"use strict";

const byId = (id) => document.getElementById(id);
const list = byId("list");
const search = byId("search");
const TABS = ["services", "pods", "nodes"];

const items = { services: new Map(), pods: new Map(), nodes: new Map() };
const hay = new Map(); // key → the text in which a search looks for words
const rows = new Map(); // key → li, of the visible tab
const groups = new Map(); // namespace → {section, ul, keys, count}, of the visible tab
const opened = new Set(); // keys of the rows whose details are open
const folded = new Set(); // namespaces whose rows are hidden
let tab = TABS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "services";
let about = null;
let attention = false; // whether only items that need attention are shown
let arrived = false; // whether the door has sent all of its items once
let complete = false; // whether the cluster had sent all of its objects to the door
let seen = null; // the keys of a full list that is being received
let doorAway = false;
let pending = false; // whether `refresh` will be called in the next frame

// The list. Rows are changed in place, so that focus, selection and scroll position are kept.

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
// The system's own namespaces come last.
const rank = (namespace) => (/^kube-/.test(namespace) ? "1" : "0") + namespace;
const nameOf = (key) => key.slice(key.lastIndexOf("/") + 1);

function place(sorted, value, order) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (order(sorted[middle], value) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

const namespaces = []; // sorted by rank

function groupOf(namespace) {
  let group = groups.get(namespace);
  if (group) return group;
  const id = "ns/" + namespace;
  const count = h("span.count", {});
  const bad = h("span.bad", { hidden: true });
  const heading = h("h2", { id },
    h("button", { type: "button", "data-fold": namespace, "aria-expanded": String(!folded.has(namespace)), "aria-controls": id + "/list" },
      icon("chevron", 14), h("span", {}, tab === "nodes" ? "Cluster" : namespace), count, bad));
  const ul = h("ul", { id: id + "/list", hidden: folded.has(namespace) });
  const section = h("section.group", { "aria-labelledby": id }, heading, ul);
  group = { section, ul, keys: [], count, bad, heading };
  groups.set(namespace, group);
  const at = place(namespaces, namespace, (a, b) => compare(rank(a), rank(b)));
  list.insertBefore(section, namespaces[at] === undefined ? null : groups.get(namespaces[at]).section);
  namespaces.splice(at, 0, namespace);
  return group;
}

// Rows are completed when they are nearly visible: to complete thousands of them would take seconds.
const shells = new Set();
const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) if (isIntersecting) fill(target);
}, { rootMargin: "800px" });

/** Complete a row, unless that was done already. */
function fill(element) {
  const key = element.dataset.key;
  if (!shells.delete(key)) return;
  near.unobserve(element);
  morph(element, row(items[tab].get(key), opened.has(key)));
}

function show(item) {
  const open = opened.has(item.key);
  const old = rows.get(item.key);
  if (old) {
    if (shells.has(item.key)) return;
    morph(old, row(item, open));
    old.lastElementChild.hidden = !open;
    return;
  }
  const made = shell(item);
  const group = groupOf(item.namespace);
  const at = place(group.keys, item.key, (a, b) => compare(nameOf(a), nameOf(b)));
  group.ul.insertBefore(made, at < group.keys.length ? rows.get(group.keys[at]) : null);
  group.keys.splice(at, 0, item.key);
  rows.set(item.key, made);
  shells.add(item.key);
  near.observe(made);
}

function unshow(key, namespace) {
  const element = rows.get(key);
  if (!element) return;
  const neighbour = element.contains(document.activeElement) ? step(element, 1) || step(element, -1) : null;
  near.unobserve(element);
  element.remove();
  rows.delete(key);
  shells.delete(key);
  const group = groups.get(namespace);
  group.keys.splice(group.keys.indexOf(key), 1);
  if (!group.keys.length) {
    group.section.remove();
    groups.delete(namespace);
    namespaces.splice(namespaces.indexOf(namespace), 1);
  }
  focusRow(neighbour);
}

function rebuild() {
  near.disconnect();
  list.replaceChildren();
  rows.clear();
  shells.clear();
  groups.clear();
  namespaces.length = 0;
  const sorted = [...items[tab].values()].sort((a, b) => compare(rank(a.namespace), rank(b.namespace)) || compare(a.name, b.name));
  for (const item of sorted) show(item);
  refresh();
}

// While the door waits for the cluster's first answers, an empty list does not mean that the cluster has no objects.
const synced = (kind) => arrived && (complete || items[kind].size);

// Searching

const words = () => search.value.toLowerCase().split(/\s+/).filter(Boolean);
const needsAttention = (item) => ["partly", "down", "lacking"].includes(stateOf(item));
const matches = (item, wanted) => wanted.every((word) => hay.get(item.key).includes(word));

/** Show the rows that match the search, hide the others, and update all counts and notices. Returns the number of matches. */
function refresh() {
  pending = false;
  const wanted = words();
  let bad = 0;
  const counts = {};
  for (const kind of TABS) {
    counts[kind] = 0;
    for (const item of items[kind].values()) {
      const fits = matches(item, wanted);
      const trouble = needsAttention(item);
      if (fits && kind === tab && trouble) bad++;
      if (fits && (!attention || trouble)) counts[kind]++;
      if (kind !== tab) continue;
      const element = rows.get(item.key);
      const hidden = !fits || (attention && !trouble);
      if (element.hidden !== hidden) element.hidden = hidden;
    }
    document.querySelector(`[data-count="${kind}"]`).textContent = synced(kind) || counts[kind] ? counts[kind] : "";
  }
  for (const group of groups.values()) {
    let shown = 0, trouble = 0;
    for (const key of group.keys) {
      if (rows.get(key).hidden) continue;
      shown++;
      if (needsAttention(items[tab].get(key))) trouble++;
    }
    group.section.hidden = !shown;
    group.count.textContent = shown;
    group.bad.hidden = !trouble;
    group.bad.textContent = `${trouble} need${trouble === 1 ? "s" : ""} attention`;
  }
  widths();
  byId("attention-count").textContent = bad;
  byId("attention").hidden = !bad && !attention;
  notices();
  empty(counts);
  return counts[tab];
}

// The width of a character in names and in host names, and the greatest width of both columns, in pixels.
const NAME_PIXELS = 7.9, HOST_PIXELS = 7.3, NAME_MOST = 420, HOST_MOST = 720;

// The columns are wide enough for this part of all names. The few longer names are wrapped.
const FITTING = 0.93;

/** Set the widths of the columns of names and host names. */
function widths() {
  const names = [], hosts = [];
  for (const item of items[tab].values()) {
    names.push(item.name.length + (item.title ? item.title.length + 1 : 0));
    const shown = item.url ? shortUrl(item.url) : forwardOf(item) && "$ " + forwardOf(item);
    if (shown) hosts.push(shown.length + (item.ports.some((port) => port.url === item.url && port.needs) ? 20 : 0));
  }
  const fitting = (lengths) => lengths.sort((a, b) => a - b)[Math.ceil(lengths.length * FITTING) - 1] || 0;
  list.style.setProperty("--who", Math.min(NAME_MOST, Math.ceil(fitting(names) * NAME_PIXELS) + 8) + "px");
  list.style.setProperty("--where", Math.min(HOST_MOST, Math.ceil(fitting(hosts) * HOST_PIXELS) + 4) + "px");
}

function refreshSoon() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => pending && refresh());
}

// This command works in any cluster, also in an embedded one that runs the machine's programs in place of images.
const START = "kubectl create deployment web --image=python:3-slim --port=8080 -- python3 -m http.server 8080";

function empty(counts) {
  const box = byId("empty");
  const scope = about?.scopes?.[tab];
  const content = [];
  if (counts[tab]) {
    box.hidden = true;
    return;
  }
  if (scope?.mode === "none") {
    content.push(h("h2", {}, `You may not list ${tab}`), scope.reason && h("p", {}, scope.reason));
    if (scope.rule) content.push(h("p", {}, "The missing rule, for an administrator of the cluster:"), snippet(scope.rule, "the missing rule"));
    if (tab === "services") content.push(h("p", {}, "You can still open services whose names you know: ", h("code", {}, about.example)));
  } else if (!synced(tab)) {
    if (doorAway || about?.state?.phase === "away") content.push(h("h2", {}, "Nothing is known yet"), h("p", {}, "The list appears by itself as soon as the cluster answers."));
    else content.push(h("p.asking", { role: "status" }, `Asking the cluster for its ${tab} …`), h("div.skeleton", { "aria-hidden": "true" }, ...Array.from({ length: 7 }, () => h("div", {}, h("span", {}), h("span", {}), h("span", {})))));
  } else if (search.value.trim() || attention) {
    content.push(h("h2", {}, search.value.trim() ? `Nothing in ${tab} matches “${search.value.trim()}”` : `No ${ONE[tab]} needs attention`));
    const others = TABS.filter((kind) => kind !== tab && counts[kind]);
    if (search.value.trim()) content.push(h("p", {}, "A search looks at names, namespaces, titles and ports; several words must all match."));
    content.push(h("p.choices", {}, h("button.button", { type: "button", "data-clear": true }, attention && !search.value.trim() ? "Show all" : "Clear the search"),
      ...others.map((kind) => h("button.button", { type: "button", "data-goto": kind }, `${counts[kind]} in ${kind}`))));
  } else if (tab === "services") {
    content.push(h("h2", {}, "No services yet"), h("p", {}, "Start something and give it a name; it appears here at once:"),
      snippet(START + "\nkubectl expose deployment web --port=80 --target-port=8080", "the commands"));
  } else if (tab === "pods") {
    content.push(h("h2", {}, "No pods yet"), h("p", {}, "Pods appear here as soon as something runs:"), snippet(START, "the command"));
  } else {
    content.push(h("h2", {}, "No nodes"), h("p", {}, "No machine has joined the cluster, so nothing can run in it. ", h("code", {}, "kubectl get nodes"), " shows when one does."));
  }
  const made = h("div", {}, ...content);
  if (box.hidden || box.dataset.shown !== made.textContent) {
    box.replaceChildren(made);
    box.dataset.shown = made.textContent;
  }
  box.hidden = false;
}

function notices() {
  const out = [];
  const scope = about?.scopes?.[tab];
  if (scope?.mode === "some") {
    out.push(h("details.notice.some", { "data-k": "some" + tab, open: byId("notices").querySelector("details.some")?.open },
      h("summary", {}, `You may list ${tab} in ${scope.namespaces.length} namespace${scope.namespaces.length === 1 ? "" : "s"}: `, h("b", {}, scope.namespaces.slice(0, 6).join(", ") + (scope.namespaces.length > 6 ? " …" : "")), "; others are not shown."),
      scope.reason && h("p", {}, scope.reason), scope.rule && snippet(scope.rule, "the missing rule")));
  }
  morph(byId("notices"), h("div.notices", { id: "notices" }, ...out));
}
