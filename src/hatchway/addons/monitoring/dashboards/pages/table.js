// A table of objects: each column is a query for the present time; values are joined to rows by labels.

import { h, icon } from "./dom.js";
import { shown } from "./plain.js";
import { instant } from "./clusterquery.js";
import { counted, format, spoken } from "./units.js";
import { whyNothing } from "./why.js";

const MOST_ROWS = 200,
  FETCHED = 2000;

/** Return a function that restores the focus to the same link or heading after the rows were made again. */
function focusIn(element) {
  const at = document.activeElement,
    selector = at?.tagName === "A" ? "tbody a" : "th button";
  if (!at?.closest("table") || !element.contains(at)) return () => {};
  const same =
    at.tagName === "A"
      ? (one) => one.href === at.href && one.className === at.className
      : (one) => one.textContent === at.textContent;
  return () => [...element.querySelectorAll(selector)].find(same)?.focus({ preventScroll: true });
}

/** Return true for a column of numbers; the others are of texts. */
const isNumber = (column) => !column.label && !column.text;

/**
 * One table. spec:
 *   title, id; key: the names of the labels that make a row; rows: (time) => PromQL, one series a row.
 *   columns: [{title, label | q: (time) => PromQL, unit, bar, whole, tone: (value, row) => class,
 *     text: (labels, value, row) => text, href: (labels) => address, keep, optional}]. A column shows a label of the row,
 *     or the value of a query. bar: show a bar, relative to the highest value; whole: relative to 1. keep: add the
 *     query's labels to the row. optional: leave the column out when no row has a value.
 *   sort: the title of the column by which rows are sorted at first, the highest first. logs: (labels) => address or null.
 *   empty, needs: as in panel.js.
 */
export class Table {
  constructor(spec) {
    this.spec = spec;
    this.sort = { title: spec.sort, down: true };
    this.filter = "";
    this.rows = [];
    this.body = h("tbody", {});
    this.head = h("tr", {});
    this.message = h("div.message", { hidden: true });
    this.note = h("p.note", { role: "status", hidden: true });
    this.count = h("span.quiet", {});
    const filter = h("input.filter", {
      type: "search",
      placeholder: "Filter",
      "aria-label": `Filter ${spec.title}`,
      maxlength: 200,
      oninput: (event) => {
        this.filter = event.target.value.trim().toLowerCase();
        this.draw();
      },
    });
    this.element = h(
      "section.panel.wide",
      { "aria-label": spec.title, "data-panel": spec.title },
      h("div.panel-head", {}, h("h3", {}, spec.title), this.count, h("span.gap", {}), filter),
      h(
        "div.scroller",
        { tabindex: 0, role: "group", "aria-label": spec.title },
        h("table", {}, h("thead", {}, this.head), this.body),
      ),
      this.message,
      this.note,
    );
    this.scroller = this.element.querySelector(".scroller");
  }

  close() {
    /* there is nothing to release */
  }

  async refresh(context) {
    const { time, signal } = context,
      { key, columns } = this.spec;
    const keyOf = (labels) => JSON.stringify(key.map((name) => labels[name] ?? ""));
    try {
      const [rows, ...answers] = await Promise.all(
        [this.spec.rows(time), ...columns.map((one) => one.q?.(time))].map((q) =>
          q ? instant(q, time.now, signal, FETCHED) : null,
        ),
      );
      const made = new Map();
      for (const { labels } of rows.rows) made.set(keyOf(labels), { labels, values: columns.map(() => null) });
      answers.forEach((answer, at) => {
        for (const { labels, value } of answer?.rows ?? []) {
          const row = made.get(keyOf(labels));
          if (row) {
            row.values[at] = Number.isNaN(value) ? null : value;
            if (columns[at].keep) row.labels = { ...labels, ...row.labels };
          }
        }
      });
      this.rows = [...made.values()];
      this.truncated = rows.truncated;
      if (!this.rows.length) return this.say(await whyNothing(this.spec, context));
      this.say(null);
      this.draw();
    } catch (error) {
      if (signal.aborted) throw error;
      this.say(error.message, true);
    }
  }

  textOf(column, at, row) {
    if (column.text) return column.text(row.labels, row.values[at], row);
    return column.label ? shown(row.labels[column.label] ?? "") : format(row.values[at], column.unit);
  }

  draw() {
    const { columns } = this.spec;
    const seen = columns.map((column, at) => !column.optional || this.rows.some((row) => row.values[at] !== null));
    const focus = focusIn(this.element);
    this.head.replaceChildren(
      ...columns.map((column, at) => (seen[at] ? this.heading(column) : "")).filter(Boolean),
      this.spec.logs ? h("th", {}, h("span.unseen", {}, "Logs")) : "",
    );
    const by = Math.max(
      0,
      columns.findIndex((one) => one.title === this.sort.title),
    );
    const value = (row) => (!isNumber(columns[by]) ? this.textOf(columns[by], by, row) : (row.values[by] ?? -Infinity));
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      return (
        (typeof x === "string" ? (x < y ? -1 : x > y ? 1 : 0) : y - x) ||
        (JSON.stringify(a.labels) < JSON.stringify(b.labels) ? -1 : 1)
      );
    };
    const wanted = this.filter
      ? this.rows.filter((row) =>
          columns.some((one, at) =>
            String(this.textOf(one, at, row))
              .toLowerCase()
              .includes(this.filter),
          ),
        )
      : this.rows;
    const sorted = [...wanted].sort((a, b) => (this.sort.down ? compare(a, b) : compare(b, a)));
    const highest = columns.map((column, at) =>
      column.bar ? Math.max(...wanted.map((row) => row.values[at] ?? 0)) : 0,
    );
    this.body.replaceChildren(...sorted.slice(0, MOST_ROWS).map((row) => this.line(row, seen, highest)));
    focus();
    this.count.textContent = String(this.rows.length);
    const parts = [];
    if (!sorted.length) parts.push("No row matches the filter.");
    if (sorted.length > MOST_ROWS)
      parts.push(`The first ${MOST_ROWS} of ${counted(sorted.length, "row")}. Filter to see others.`);
    if (this.truncated) parts.push(`Only ${counted(FETCHED, "row")} were asked for; there are more.`);
    this.note.textContent = parts.join(" ");
    this.note.hidden = !parts.length;
  }

  heading(column) {
    const sorted = column.title === this.sort.title;
    const click = () => {
      this.sort = { title: column.title, down: sorted ? !this.sort.down : true };
      this.draw();
      this.head.querySelector("[aria-sort] button")?.focus();
    };
    return h(
      isNumber(column) ? "th.number" : "th",
      { scope: "col", "aria-sort": sorted ? (this.sort.down === isNumber(column) ? "descending" : "ascending") : null },
      h("button", { type: "button", onclick: click }, column.title),
    );
  }

  line(row, seen, highest) {
    const logs = this.spec.logs?.(row.labels);
    return h(
      "tr",
      {},
      ...this.spec.columns.map((column, at) => (seen[at] ? this.cell(column, at, row, highest[at]) : "")),
      this.spec.logs
        ? h(
            "td.act",
            {},
            logs
              ? h(
                  "a.icon.small",
                  {
                    href: logs,
                    target: "_blank",
                    rel: "noopener",
                    "aria-label": `Logs of ${this.textOf(this.spec.columns[0], 0, row)}`,
                    title: "Logs",
                  },
                  icon("logs", 15),
                )
              : "",
          )
        : "",
    );
  }

  cell(column, at, row, highest) {
    const value = row.values[at],
      text = this.textOf(column, at, row),
      href = column.href?.(row.labels);
    const tone = column.tone?.(value, row);
    const content = href
      ? h("a", { href, title: text }, text || "(none)")
      : h("span", { class: tone ?? null, title: typeof value === "number" ? spoken(value, column.unit) : null }, text);
    const part = column.whole ? value : column.bar && highest ? value / highest : null;
    if (part === null || value === null || !Number.isFinite(part))
      return h(isNumber(column) ? "td.number" : "td", {}, content);
    const bar = h("i.bar", { "aria-hidden": "true", class: `bar ${tone ?? ""}` });
    bar.style.setProperty("--part", `${Math.min(100, Math.max(0, part * 100)).toFixed(1)}%`);
    return h("td.number", {}, content, bar);
  }

  say(text, bad = false) {
    this.message.hidden = text === null;
    this.scroller.hidden = text !== null;
    if (text !== null) this.count.textContent = "";
    this.message.classList.toggle("bad", bad);
    this.message.replaceChildren(...(text === null ? [] : [bad ? icon("warn") : "", h("p", {}, text)]));
  }
}
