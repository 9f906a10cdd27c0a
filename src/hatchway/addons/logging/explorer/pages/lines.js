// The list of lines: the newest first, with a heading for each day. Lines open in place, and keys move the focus.

import { byId, h } from "./dom.js";
import { detail } from "./detail.js";
import { FIELDS, levelOf, valueOf } from "./fields.js";
import { state } from "./state.js";
import { SHOWN, cut, jsonOf, marked, plain, summary, valueAt } from "./text.js";
import { clock, dateOf, dayOf, sortable } from "./time.js";

/** The list. actions: {context(hit)}. */
export class LineList {
  constructor(box, actions) {
    this.box = box;
    this.actions = actions;
    this.pattern = null;
    this.clear();
    box.addEventListener("click", (event) => this.click(event));
    box.addEventListener("focusin", (event) => this.reachable(event.target.closest(".line")));
  }

  clear() {
    this.known = new Set();
    this.hits = new Map();
    this.box.replaceChildren();
  }

  get size() { return this.known.size; }

  /** Add lines at the end. Return how many were new. */
  add(hits) {
    const fresh = this.fresh(hits);
    const made = document.createDocumentFragment();
    let day = this.box.lastElementChild?.dataset.day;
    for (const hit of fresh) {
      const row = this.row(hit);
      if (row.dataset.day !== day) made.append(this.day(row.dataset.day));
      day = row.dataset.day;
      made.append(row);
    }
    this.box.append(made);
    this.reachable();
    return fresh.length;
  }

  /** Insert lines that have just arrived, near the top. Return how many were new. */
  insert(hits) {
    const fresh = this.fresh(hits).reverse();
    for (const hit of fresh) {
      const row = this.row(hit);
      row.classList.add("arrived");
      let at = this.box.firstElementChild;
      while (at && (at.classList.contains("day") || at.dataset.time > row.dataset.time)) at = at.nextElementSibling;
      this.box.insertBefore(row, at);
    }
    if (fresh.length) this.days();
    this.reachable();
    return fresh.length;
  }

  /** Remove all lines but the first ones. */
  bound(most) {
    const rows = this.box.querySelectorAll(".line");
    for (let number = most; number < rows.length; number++) {
      this.known.delete(rows[number].dataset.id);
      this.hits.delete(rows[number].dataset.id);
      rows[number].remove();
    }
  }

  /** Return the lines that are not shown yet, the newest first. */
  fresh(hits) {
    const found = hits.filter((hit) => !this.known.has(`${hit._index}/${hit._id}`));
    for (const hit of found) {
      hit.key = `${hit._index}/${hit._id}`;
      this.known.add(hit.key);
      this.hits.set(hit.key, hit);
    }
    return found.sort(newestFirst);
  }

  days() {
    for (const old of this.box.querySelectorAll(".day")) old.remove();
    let day = "";
    for (const row of [...this.box.children]) {
      if (row.dataset.day !== day) row.before(this.day((day = row.dataset.day)));
    }
  }

  day(day) {
    return h("li.day", { "data-day": day, role: "presentation" }, h("span", {}, dayOf(Date.parse(`${day}T12:00:00`))));
  }

  row(hit) {
    return lineRow(hit, state.columns, this.pattern);
  }

  /** Draw all lines again, because columns or marks have changed. */
  redraw(pattern) {
    this.pattern = pattern;
    const focused = document.activeElement?.closest?.(".line")?.dataset.id;
    for (const row of this.box.querySelectorAll(".line")) row.replaceWith(this.row(this.hits.get(row.dataset.id)));
    this.reachable();
    if (focused) this.rowOf(focused)?.focus({ preventScroll: true });
  }

  /** Let Tab reach only one line: the line that had the focus last, or else the first line. */
  reachable(row = this.box.querySelector('.line[tabindex="0"]') || this.box.querySelector(".line")) {
    if (!row || row.tabIndex === 0) return;
    this.box.querySelector('.line[tabindex="0"]')?.setAttribute("tabindex", "-1");
    row.setAttribute("tabindex", "0");
  }

  rowOf(id) { return [...this.box.querySelectorAll(".line")].find((row) => row.dataset.id === id); }

  click(event) {
    const row = event.target.closest(".line");
    if (!row || event.target.closest(".detail") || !getSelection().isCollapsed) return;
    row.focus({ preventScroll: true });
    this.toggle(row);
  }

  toggle(row) {
    const open = row.querySelector(".detail");
    if (open) open.remove();
    else row.append(detail(this.hits.get(row.dataset.id), this.actions, this.pattern));
    row.setAttribute("aria-expanded", String(!open));
  }

  /** Open a line, if the list contains it. */
  open(id) {
    const row = this.rowOf(id);
    if (!row) return;
    this.toggle(row);
    row.scrollIntoView({ block: "nearest" });
  }

  current() { return document.activeElement?.closest?.(".line"); }

  /** Move the focus by some lines. */
  step(number) {
    const rows = [...this.box.querySelectorAll(".line")];
    if (!rows.length) return;
    const at = rows.indexOf(this.current());
    const next = rows[at < 0 ? 0 : Math.min(Math.max(at + number, 0), rows.length - 1)];
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }

  key(event) {
    const row = this.current();
    if (["j", "ArrowDown"].includes(event.key)) this.step(1);
    else if (["k", "ArrowUp"].includes(event.key)) this.step(-1);
    else if (event.key === "PageDown" && row) this.step(15);
    else if (event.key === "PageUp" && row) this.step(-15);
    else if (row && event.target === row && ["Enter", " "].includes(event.key)) this.toggle(row);
    else if (row && event.key === "c") this.actions.context(this.hits.get(row.dataset.id));
    else if (row && event.key === "Escape" && row.querySelector(".detail")) { this.toggle(row); row.focus(); }
    else return false;
    return true;
  }
}

export function newestFirst(a, b) {
  const [x, y] = [sortable(a._source["@timestamp"] || ""), sortable(b._source["@timestamp"] || "")];
  if (x !== y) return x < y ? 1 : -1;
  // Lines with the same time are in the order in which they were indexed.
  return a._index === b._index ? (b.sort?.[1] ?? 0) - (a.sort?.[1] ?? 0) : a._index < b._index ? 1 : -1;
}

/** Return the element of a line. */
export function lineRow(hit, columns, pattern) {
  const source = hit._source, time = source["@timestamp"] || "", ms = Date.parse(time);
  const level = levelOf(source), text = plain(String(source.log ?? source.message ?? ""));
  const object = jsonOf(text);
  return h(`li.line.at-${level}`, {
    tabindex: "-1", "aria-expanded": "false", "data-id": hit.key ?? `${hit._index}/${hit._id}`, "data-time": sortable(time), "data-day": Number.isNaN(ms) ? "" : dateOf(ms),
  },
  h("time", { datetime: time, title: time }, clock(time)),
  h(`span.level.level-${level}`, {}, level === "none" ? "" : level),
  ...columns.map((name) => column(name, source, object)),
  h("span.text", {}, ...content(text, object, pattern)));
}

function column(name, source, object) {
  const value = name.startsWith("json:") ? valueAt(object, name.slice(5)) : valueOf(source, name);
  return h(`span.column.of-${name.startsWith("json:") ? "json" : name}`, { title: value.slice(0, 500) }, value.slice(0, 300));
}

function content(text, object, pattern) {
  if (!object) return marked(cut(text, SHOWN), pattern);
  const { message, fields } = summary(object);
  const made = [];
  if (message) made.push(h("span", {}, ...marked(cut(plain(message), SHOWN), pattern)));
  for (const [path, value] of fields.slice(0, 12)) {
    if (made.length) made.push(" ");
    made.push(h("span.pair", {}, h("span.name", {}, `${path}=`), ...marked(cut(plain(value), 200), pattern)));
  }
  if (fields.length > 12) made.push(" ", h("span.pair", {}, `… ${fields.length - 12} more`));
  return made;
}

/** Show the labels above the columns. */
export function head(columns) {
  byId("head").replaceChildren(h("span", {}, "Time"), h("span", {}, "Level"),
    ...columns.map((name) => h("span", {}, name.startsWith("json:") ? name.slice(5) : FIELDS[name].label)), h("span", {}, "Line"));
}
