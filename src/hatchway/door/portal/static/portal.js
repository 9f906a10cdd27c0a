// The portal: follows the door's events, keeps the list, and the keyboard.
"use strict";

const byId = (id) => document.getElementById(id);
const list = byId("list");
const search = byId("search");
const TABS = ["services", "pods", "nodes"];

const items = { services: new Map(), pods: new Map(), nodes: new Map() };
const hay = new Map(); // key → what a search looks at
const rows = new Map(); // key → li, of the tab that is shown
const groups = new Map(); // namespace → {section, ul, keys, count}, of the tab that is shown
const opened = new Set();
const folded = new Set();
let tab = TABS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "services";
let about = null;
let attention = false;
let synced = false; // everything has arrived once
let seen = null; // keys that came since a full list began
let doorAway = false;
let pending = false;

// The list. Rows are keyed: they change in place, so that focus, selection and scroll stay.

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
// Namespaces of the system itself come last.
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

function show(item) {
  const old = rows.get(item.key);
  const made = row(item, opened.has(item.key));
  if (old) {
    morph(old, made);
    old.lastElementChild.hidden = !opened.has(item.key);
    return;
  }
  const group = groupOf(item.namespace);
  const at = place(group.keys, item.key, (a, b) => compare(nameOf(a), nameOf(b)));
  group.ul.insertBefore(made, at < group.keys.length ? rows.get(group.keys[at]) : null);
  group.keys.splice(at, 0, item.key);
  rows.set(item.key, made);
}

function unshow(key, namespace) {
  const element = rows.get(key);
  if (!element) return;
  const neighbour = element.contains(document.activeElement) ? step(element, 1) || step(element, -1) : null;
  element.remove();
  rows.delete(key);
  const group = groups.get(namespace);
  group.keys.splice(group.keys.indexOf(key), 1);
  if (!group.keys.length) {
    group.section.remove();
    groups.delete(namespace);
    namespaces.splice(namespaces.indexOf(namespace), 1);
  }
  neighbour?.querySelector(".main").focus();
}

function rebuild() {
  list.replaceChildren();
  rows.clear();
  groups.clear();
  namespaces.length = 0;
  const sorted = [...items[tab].values()].sort((a, b) => compare(rank(a.namespace), rank(b.namespace)) || compare(a.name, b.name));
  for (const item of sorted) show(item);
  refresh();
}

// Searching

const words = () => search.value.toLowerCase().split(/\s+/).filter(Boolean);
const needsAttention = (item) => item.state === "partly" || item.state === "down";
const matches = (item, wanted) => wanted.every((word) => hay.get(item.key).includes(word));

/** Show what matches, count, and say so where nothing does. */
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
    document.querySelector(`[data-count="${kind}"]`).textContent = synced || counts[kind] ? counts[kind] : "";
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
    group.bad.textContent = `${trouble} not ready`;
  }
  byId("attention-count").textContent = bad;
  byId("attention").hidden = !bad && !attention;
  notices();
  empty(counts);
  return counts[tab];
}

function refreshSoon() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => pending && refresh());
}

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
    if (scope.rule) content.push(h("p", {}, "The rule that is missing, for whoever administers the cluster:"), snippet(scope.rule, "the missing rule"));
    if (tab === "services") content.push(h("p", {}, "What you know by name you can still open: ", h("code", {}, `http://NAME.NAMESPACE.svc.localhost${location.port ? ":" + location.port : ""}/`)));
  } else if (!synced) {
    if (doorAway || about?.state?.phase === "away") content.push(h("h2", {}, "Nothing has been seen yet"), h("p", {}, "The list appears by itself as soon as the cluster answers."));
    else content.push(h("div.skeleton", { "aria-label": "Loading" }, ...Array.from({ length: 7 }, () => h("div", {}, h("span", {}), h("span", {}), h("span", {})))));
  } else if (search.value.trim() || attention) {
    content.push(h("h2", {}, search.value.trim() ? `Nothing in ${tab} matches “${search.value.trim()}”` : `All ${tab} are ready`));
    const others = TABS.filter((kind) => kind !== tab && counts[kind]);
    if (search.value.trim()) content.push(h("p", {}, "A search looks at names, namespaces, titles and ports; several words must all match."));
    content.push(h("p.choices", {}, h("button.button", { type: "button", "data-clear": true }, attention && !search.value.trim() ? "Show all" : "Clear the search"),
      ...others.map((kind) => h("button.button", { type: "button", "data-goto": kind }, `${counts[kind]} in ${kind}`))));
  } else if (tab === "services") {
    content.push(h("h2", {}, "No services yet"), h("p", {}, "Start something and give it a name; it appears here at once:"),
      snippet("kubectl create deployment web --image=nginx --port=80\nkubectl expose deployment web --port=80", "the commands"));
  } else if (tab === "pods") {
    content.push(h("h2", {}, "No pods yet"), h("p", {}, "Pods appear here as soon as something runs:"), snippet("kubectl create deployment web --image=nginx --port=80", "the command"));
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

/** What is wrong as a whole stands in the header, where it is seen wherever the list is scrolled to. */
function alerts() {
  const state = about?.state;
  const out = [];
  if (doorAway) {
    out.push(h("div", { "data-k": "door" }, h("p", {}, h("span.dot.down"), h("b", {}, "The door does not answer."), h("span", {}, "Is ", h("code", {}, "hatchway proxy"), " still running? This page tries again by itself."))));
  } else if (state?.phase === "away") {
    const since = state.since ? ` What you see is from ${new Date(state.since * 1000).toLocaleTimeString()}.` : "";
    out.push(h("div", { "data-k": "away" }, h("p", {}, h("span.dot.down"), h("b", {}, "The cluster does not answer."), h("span", {}, `Trying again by itself.${since}`), state.reason && h("code.reason", {}, state.reason), state.hint && h("span", {}, state.hint))));
  }
  morph(byId("alerts"), h("div.alerts", { id: "alerts", role: "alert" }, ...out));
}

new ResizeObserver(([{ target }]) => document.documentElement.style.setProperty("--top", target.offsetHeight + "px")).observe(document.querySelector(".top"));

// Following the door

function header() {
  byId("context").textContent = about.context;
  byId("server").textContent = about.server.replace(/^https:\/\//, "");
  document.title = about.context ? `${about.context} · Hatchway` : "Hatchway";
}

function connection() {
  const phase = doorAway ? "away" : about?.state?.phase || "connecting";
  const text = doorAway ? "Door away" : { live: "Live", connecting: "Connecting", away: "Cluster away" }[phase] || phase;
  byId("connection-dot").className = "dot " + phase;
  if (byId("connection-text").textContent !== text) byId("connection-text").textContent = text;
  byId("connection").dataset.phase = phase;
  alerts();
}

function put(item) {
  seen?.add(item.key);
  items[item.kind].set(item.key, item);
  hay.set(item.key, haystack(item));
  if (item.kind === tab) show(item);
}

function gone(key) {
  const kind = key.slice(0, key.indexOf("/"));
  const item = items[kind]?.get(key);
  if (!item) return;
  unshow(key, item.namespace);
  items[kind].delete(key);
  hay.delete(key);
  opened.delete(key);
}

let source = null;
let wait = 500;

function follow() {
  source = new EventSource("/-/hatchway/events");
  source.addEventListener("about", (event) => {
    about = JSON.parse(event.data);
    doorAway = false;
    wait = 500;
    header();
    connection();
    refreshSoon();
  });
  source.addEventListener("begin", () => { seen = new Set(); });
  source.addEventListener("items", (event) => {
    const { put: changed, gone: keys } = JSON.parse(event.data);
    for (const item of changed) put(item);
    for (const key of keys) gone(key);
    refreshSoon();
  });
  source.addEventListener("synced", () => {
    // A view that is still connecting has nothing to show, which is not the same as a cluster with nothing in it.
    synced = synced || about?.state?.phase === "live" || TABS.some((kind) => items[kind].size);
    if (seen) for (const kind of TABS) for (const key of [...items[kind].keys()]) if (!seen.has(key)) gone(key);
    seen = null;
    refreshSoon();
  });
  source.addEventListener("error", () => {
    source.close();
    doorAway = true;
    connection();
    refreshSoon();
    setTimeout(follow, wait);
    wait = Math.min(wait * 2, 8000);
  });
}

// Moving, opening, copying

const visible = (element) => !element.hidden && !element.closest("section").hidden && !element.parentElement.hidden;

/** The next row that is shown, in a direction. */
function step(element, direction) {
  const all = [...list.querySelectorAll("li.row")];
  for (let at = all.indexOf(element) + direction; at >= 0 && at < all.length; at += direction) if (visible(all[at])) return all[at];
  return null;
}

function edge(last) {
  const all = [...list.querySelectorAll("li.row")].filter(visible);
  return all[last ? all.length - 1 : 0] || null;
}

function focusRow(element) {
  if (!element) return;
  const main = element.querySelector(".main");
  main.focus({ preventScroll: true });
  element.scrollIntoView({ block: "nearest" });
}

function toggle(element, open = !opened.has(element.dataset.key)) {
  const key = element.dataset.key;
  if (open) opened.add(key);
  else opened.delete(key);
  show(items[tab].get(key));
}

function select(kind, focus = false) {
  if (kind === tab) return;
  tab = kind;
  for (const button of document.querySelectorAll("[data-tab]")) {
    const chosen = button.dataset.tab === tab;
    button.setAttribute("aria-selected", chosen);
    button.tabIndex = chosen ? 0 : -1;
    if (chosen && focus) button.focus();
  }
  list.setAttribute("aria-labelledby", "tab-" + tab);
  history.replaceState(null, "", tab === "services" ? location.pathname : "#" + tab);
  window.scrollTo(0, 0);
  rebuild();
}

function setAttention(value) {
  attention = value;
  byId("attention").setAttribute("aria-pressed", value);
  const count = refresh();
  say(value ? `${count} ${tab} not ready` : `${count} ${tab}`);
}

function clear() {
  search.value = "";
  setAttention(false);
}

async function copyFrom(text, button) {
  const done = await copy(text);
  say(done ? "Copied " + text : "Copying is not allowed here");
  flash(done ? "Copied" : "Copying is not allowed here", text);
  if (!done || !button?.classList.contains("copy")) return;
  button.querySelector("use").setAttribute("href", "#i-check");
  button.classList.add("done");
  setTimeout(() => {
    button.querySelector("use")?.setAttribute("href", "#i-copy");
    button.classList.remove("done");
  }, 1200);
}

let toast = null;
let toastEnd = 0;

function flash(title, text) {
  toast?.remove();
  toast = h("div.toast", { "aria-hidden": "true" }, icon("check"), h("b", {}, title), h("span.mono", {}, text));
  document.body.append(toast);
  clearTimeout(toastEnd);
  toastEnd = setTimeout(() => { toast.remove(); toast = null; }, 1800);
}

// One tooltip for all: rows clip what stands out of them.

const tip = byId("tip");
let tipFor = null;

function showTip(element) {
  const text = element?.dataset.tip;
  if (tipFor && tipFor !== element) tipFor.removeAttribute("aria-describedby");
  tipFor = text ? element : null;
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  element.setAttribute("aria-describedby", "tip");
  const box = element.getBoundingClientRect();
  const own = tip.getBoundingClientRect();
  const left = Math.max(8, Math.min(box.left + box.width / 2 - own.width / 2, innerWidth - own.width - 8));
  const below = box.bottom + 6 + own.height < innerHeight;
  tip.style.left = left + "px";
  tip.style.top = (below ? box.bottom + 6 : box.top - own.height - 6) + "px";
}

document.addEventListener("pointerover", (event) => showTip(event.target.closest?.("[data-tip]")));
document.addEventListener("focusin", (event) => showTip(event.target.matches(":focus-visible") ? event.target.closest("[data-tip]") : null));
document.addEventListener("focusout", () => showTip(null));
document.addEventListener("scroll", () => tipFor && showTip(null), { passive: true });

document.addEventListener("click", (event) => {
  const hit = event.target.closest("[data-copy],[data-toggle],[data-fold],[data-tab],[data-clear],[data-goto]");
  if (!hit) {
    const line = event.target.closest(".line");
    // A click on a row's empty parts opens it; one that ends a selection of text does not.
    if (line && !event.target.closest("a, button") && getSelection().isCollapsed) toggle(line.parentElement);
    return;
  }
  const { copy: text, fold, tab: kind, goto } = hit.dataset;
  if (text !== undefined) copyFrom(text, hit);
  else if (fold !== undefined) {
    if (folded.has(fold)) folded.delete(fold);
    else folded.add(fold);
    const group = groups.get(fold);
    group.ul.hidden = folded.has(fold);
    hit.setAttribute("aria-expanded", String(!folded.has(fold)));
  } else if (kind) select(kind);
  else if (goto) select(goto, true);
  else if (hit.dataset.clear !== undefined) { clear(); search.focus(); }
  else toggle(hit.closest("li.row"));
});

search.addEventListener("input", () => {
  const count = refresh();
  window.scrollTo(0, 0);
  say(`${count} ${tab}`);
});
byId("attention").addEventListener("click", () => setAttention(!attention));

const help = byId("help");
byId("keys").addEventListener("click", () => help.showModal());
byId("help-close").addEventListener("click", () => help.close());
help.addEventListener("click", (event) => event.target === help && help.close());

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  const { key, target } = event;
  const at = target.closest?.("li.row") || null;
  const typing = target === search;
  const main = target.classList?.contains("main");
  let done = true;
  if (key === "Escape") {
    if (search.value || attention) clear();
    else if (typing) search.blur();
    else showTip(null);
  } else if (key === "ArrowDown" && target.closest("[role=tab]") === null) focusRow(at ? step(at, 1) : edge(false));
  else if (key === "ArrowUp" && at) {
    const before = step(at, -1);
    if (before) focusRow(before);
    else search.focus();
  } else if (typing) {
    const first = key === "Enter" ? edge(false) : null;
    if (first) {
      focusRow(first);
      first.querySelector(".main").click();
    } else done = false;
  } else if (target.closest("[role=tab]") && (key === "ArrowRight" || key === "ArrowLeft")) {
    const next = TABS[(TABS.indexOf(tab) + (key === "ArrowRight" ? 1 : TABS.length - 1)) % TABS.length];
    select(next, true);
  } else if (key === "/") { search.focus(); search.select(); }
  else if (key === "?") help.showModal();
  else if (key === "j") focusRow(at ? step(at, 1) : edge(false));
  else if (key === "k") focusRow(at ? step(at, -1) || at : edge(true));
  else if (key === "Home" && at) focusRow(edge(false));
  else if (key === "End" && at) focusRow(edge(true));
  else if (key === "ArrowRight" && at) toggle(at, true);
  else if (key === "ArrowLeft" && at) { toggle(at, false); if (!main) focusRow(at); }
  else if (key === "c" && at) copyFrom(linkOf(items[tab].get(at.dataset.key)));
  else if (key === "p" && at) {
    const path = items[tab].get(at.dataset.key).ports.find((port) => port.path)?.path;
    if (path) copyFrom(path);
  } else if (key === "n") setAttention(!attention);
  else if ("123".includes(key)) select(TABS[Number(key) - 1]);
  else done = false;
  if (done) event.preventDefault();
});

// Colours: as the system has them, light, dark; remembered.

const THEMES = ["system", "light", "dark"];
const theme = byId("theme");

function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.setAttribute("aria-label", "Colours: " + (name === "system" ? "as the system has them" : name));
  theme.dataset.tip = "Colours: " + name;
  theme.querySelector("use").setAttribute("href", "#i-" + name);
}

theme.addEventListener("click", () => {
  const name = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme || "system") + 1) % 3];
  setTheme(name);
  showTip(theme);
  try { localStorage.setItem("hatchway-theme", name); } catch { /* not remembered, then */ }
  say("Colours: " + name);
});

setTheme(document.documentElement.dataset.theme || "system");
if (tab !== "services") { const chosen = tab; tab = "services"; select(chosen); }
refresh();
follow();
