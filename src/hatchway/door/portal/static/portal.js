// The portal: receives the door's events, and handles the keyboard, copying, tooltips and colours.
"use strict";

/** Show problems of the door and the cluster in the header, which is visible at every scroll position. */
function alerts() {
  const state = about?.state;
  const out = [];
  if (doorAway) {
    out.push(h("div", { "data-k": "door" }, h("p", {}, h("span.dot.down", { "aria-hidden": "true" }), h("b", {}, "The door does not answer."), h("span", {}, "Is ", h("code", {}, "hatchway proxy"), " still running? This page tries again by itself."))));
  } else if (state?.phase === "away") {
    const since = state.since ? ` What you see is from ${new Date(state.since * 1000).toLocaleTimeString()}.` : "";
    out.push(h("div", { "data-k": "away" }, h("p", {}, h("span.dot.down", { "aria-hidden": "true" }), h("b", {}, "The cluster does not answer."), h("span", {}, `Trying again by itself.${since}`), state.reason && h("code.reason", {}, state.reason), state.hint && h("span", {}, state.hint))));
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
let timer = 0;

function follow() {
  clearTimeout(timer);
  source?.close();
  source = new EventSource("/-/hatchway/events");
  source.addEventListener("about", (event) => {
    const before = complete;
    about = JSON.parse(event.data);
    // While the cluster is away, the door keeps its last known objects, so the list is as complete as before.
    if (about.state.phase !== "away") complete = about.state.phase === "live";
    // `stateOf` depends on `complete`, so the rows must be made again.
    if (before !== complete) for (const item of items[tab].values()) show(item);
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
    arrived = true;
    if (seen) for (const kind of TABS) for (const key of [...items[kind].keys()]) if (!seen.has(key)) gone(key);
    seen = null;
    refreshSoon();
  });
  source.addEventListener("error", () => {
    source.close();
    doorAway = true;
    connection();
    refreshSoon();
    timer = setTimeout(follow, wait);
    wait = Math.min(wait * 2, 8000);
  });
}

// A browser opens at most six connections to an origin, so hidden tabs close theirs.
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) {
    if (source.readyState !== EventSource.OPEN) follow();
  } else {
    timer = setTimeout(() => source.close(), 10_000);
  }
});

// Moving, opening, copying

/** Return the next visible row after `element` in a direction (1 or -1); without an element, the first or the last row. */
function step(element, direction) {
  const way = direction > 0 ? "nextElementSibling" : "previousElementSibling";
  const end = direction > 0 ? "firstElementChild" : "lastElementChild";
  let section = element ? element.closest("section") : list[end];
  let at = element ? element[way] : section?.lastElementChild[end];
  while (section) {
    if (!section.hidden && !section.lastElementChild.hidden) {
      for (; at; at = at[way]) if (!at.hidden) return at;
    }
    section = section[way];
    at = section?.lastElementChild[end];
  }
  return null;
}

const edge = (last) => step(null, last ? -1 : 1);

function focusRow(element) {
  if (!element) return;
  fill(element);
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

/** Open a row's details, and focus the field for a port number. */
function typePort(element) {
  toggle(element, true);
  element.querySelector(".openport input:not([type=hidden])")?.focus();
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
  say(value ? `${count} ${tab} that need attention` : `${count} ${tab}`);
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

// All elements share one tooltip, because a tooltip inside a row would be clipped.

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
document.addEventListener("scroll", () => tipFor && showTip(tipFor.matches(":hover, :focus-visible") ? tipFor : null), { passive: true });

document.addEventListener("click", (event) => {
  const hit = event.target.closest("[data-copy],[data-toggle],[data-fold],[data-tab],[data-clear],[data-goto],[data-openport]");
  if (!hit) {
    const line = event.target.closest(".line");
    // A click on an empty part of a row opens the row, unless it ends a selection of text.
    if (line && !event.target.closest("a, button, input, select, label") && getSelection().isCollapsed) toggle(line.parentElement);
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
  else if (hit.dataset.openport !== undefined) typePort(hit.closest("li.row"));
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
  // In a form field of a row, keys are text; only Escape leaves the field.
  if (target.matches?.("li.row :is(input, select)")) {
    if (key === "Escape") focusRow(at);
    return;
  }
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
  else if (key === "o" && at) typePort(at);
  else if (key === "l" && at) at.querySelector(".logs")?.click();
  else if (key === "p" && at) {
    const path = items[tab].get(at.dataset.key).ports.find((port) => port.path)?.path;
    if (path) copyFrom(path);
  } else if (key === "n") setAttention(!attention);
  else if ("123".includes(key)) select(TABS[Number(key) - 1]);
  else done = false;
  if (done) event.preventDefault();
});

// The choice of colours (the system's, light or dark), which the browser stores.

const THEMES = ["system", "light", "dark"];
const theme = byId("theme");

function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.setAttribute("aria-label", "Colours: " + (name === "system" ? "like the system" : name));
  theme.dataset.tip = "Colours: " + name;
  theme.querySelector("use").setAttribute("href", "#i-" + name);
}

theme.addEventListener("click", () => {
  const name = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme || "system") + 1) % 3];
  setTheme(name);
  showTip(theme);
  try { localStorage.setItem("hatchway-theme", name); } catch { /* Storage is forbidden: the choice is lost when the page is closed. */ }
  say("Colours: " + name);
});

setTheme(document.documentElement.dataset.theme || "system");
if (tab !== "services") { const chosen = tab; tab = "services"; select(chosen); }
refresh();
follow();
