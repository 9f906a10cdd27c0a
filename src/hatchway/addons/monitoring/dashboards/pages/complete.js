// Completion in the query box: metrics and functions, names of labels, and their values.

import { h } from "./dom.js";
import { shown } from "./plain.js";
import { labelNames, labelValues, metricNames } from "./prometheus.js";

const FUNCTIONS = (
  "abs absent absent_over_time avg avg_over_time bottomk ceil changes clamp clamp_max clamp_min count " +
  "count_over_time count_values day_of_month day_of_week delta deriv exp floor group histogram_quantile " +
  "holt_winters hour idelta increase irate label_join label_replace last_over_time ln log10 log2 max " +
  "max_over_time min min_over_time minute month predict_linear present_over_time quantile quantile_over_time rate " +
  "resets round scalar sgn sort sort_desc sqrt stddev stddev_over_time stdvar sum sum_over_time time timestamp " +
  "topk vector year"
).split(" ");
const WORDS = ["and", "by", "bool", "group_left", "group_right", "ignoring", "offset", "on", "or", "unless", "without"];
const MOST = 12;
const NAME = "[a-zA-Z_:][\\w:]*";
const IN_VALUE = new RegExp(`(?:(${NAME})\\s*)?\\{[^{}]*?([a-zA-Z_]\\w*)\\s*(?:=~|!~|!=|=)\\s*"([^"\\\\]*)$`);
const IN_LABELS = new RegExp(`(?:(${NAME})\\s*)?\\{(?:[^{}"]|"[^"]*")*?([a-zA-Z_]\\w*)?$`);
const IN_GROUP = new RegExp(`\\b(?:by|without|on|ignoring)\\s*\\(\\s*(?:\\w+\\s*,\\s*)*([a-zA-Z_]\\w*)?$`);

/** Return what is being typed before the caret: {kind, word, metric, label}. */
export function situation(before) {
  let found = IN_VALUE.exec(before);
  if (found) return { kind: "value", metric: found[1], label: found[2], word: found[3] };
  if (/"[^"\n]*$/.test(before.replace(/"[^"\n]*"/g, ""))) return null;
  found = IN_GROUP.exec(before);
  if (found) return { kind: "label", word: found[1] ?? "" };
  found = IN_LABELS.exec(before);
  if (found) return { kind: "label", metric: found[1], word: found[2] ?? "" };
  found = new RegExp(`(?<![\\w:.\\d])${NAME}$`).exec(before);
  return found && found[0].length >= 2 ? { kind: "name", word: found[0] } : null;
}

const cache = new Map();

async function cached(key, load) {
  if (!cache.has(key))
    cache.set(
      key,
      load().catch(() => {
        cache.delete(key);
        return [];
      }),
    );
  return cache.get(key);
}

async function candidates({ kind, metric, label }) {
  const match = metric ? `{__name__="${metric}"}` : '{__name__!=""}';
  if (kind === "label")
    return (await cached(`labels ${match}`, () => labelNames(match)))
      .filter((name) => name !== "__name__")
      .map((text) => ({ text, kind }));
  if (kind === "value")
    return (await cached(`values ${label} ${match}`, () => labelValues(label, match))).map((text) => ({ text, kind }));
  const names = await cached("metrics", metricNames);
  return [
    ...names.map((text) => ({ text, kind: "metric" })),
    ...FUNCTIONS.map((text) => ({ text, kind: "function" })),
    ...WORDS.map((text) => ({ text, kind: "word" })),
  ];
}

/** Return the best candidates; those that begin with the word come first. */
function best(all, word) {
  const low = word.toLowerCase();
  const ranked = all.map((one) => ({ one, at: one.text.toLowerCase().indexOf(low) })).filter(({ at }) => at >= 0);
  ranked.sort(
    (a, b) => (a.at > 0) - (b.at > 0) || a.one.text.length - b.one.text.length || (a.one.text < b.one.text ? -1 : 1),
  );
  return ranked.slice(0, MOST).map(({ one }) => one);
}

export class Completion {
  constructor(input) {
    this.input = input;
    this.list = h("ul.complete", { id: "completions", role: "listbox", "aria-label": "Completions", hidden: true });
    input.after(this.list);
    for (const [name, value] of Object.entries({
      role: "combobox",
      "aria-autocomplete": "list",
      "aria-controls": "completions",
      "aria-expanded": "false",
    }))
      input.setAttribute(name, value);
    input.addEventListener("input", () => this.offer());
    input.addEventListener("keydown", (event) => this.key(event));
    input.addEventListener("blur", () => {
      this.hide();
    });
    this.at = -1;
  }

  close() {
    this.list.remove();
  }

  async offer() {
    const before = this.input.value.slice(0, this.input.selectionStart),
      found = situation(before);
    const turn = (this.turn = {});
    if (!found || this.input.selectionStart !== this.input.selectionEnd) return this.hide();
    const items = best(await candidates(found), found.word);
    if (turn !== this.turn || document.activeElement !== this.input) return;
    if (!items.length || (items.length === 1 && items[0].text === found.word)) return this.hide();
    this.found = found;
    this.items = items;
    this.at = -1;
    this.list.replaceChildren(
      ...items.map((one, at) =>
        h(
          "li",
          {
            role: "option",
            id: `completion-${at}`,
            "aria-selected": "false",
            onmousedown: (event) => {
              event.preventDefault();
              this.take(at);
            },
          },
          h("span", {}, shown(one.text)),
          h("span.quiet", {}, one.kind),
        ),
      ),
    );
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
  }

  hide() {
    this.turn = null;
    this.list.hidden = true;
    this.at = -1;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  key(event) {
    if (this.list.hidden) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      this.at =
        this.at < 0 && step < 0 ? this.items.length - 1 : (this.at + step + this.items.length) % this.items.length;
      [...this.list.children].forEach((one, at) => one.setAttribute("aria-selected", String(at === this.at)));
      this.list.children[this.at].scrollIntoView({ block: "nearest" });
      this.input.setAttribute("aria-activedescendant", `completion-${this.at}`);
    } else if (event.key === "Tab" && !event.shiftKey) this.take(Math.max(0, this.at));
    else if (event.key === "Enter" && this.at >= 0 && !event.shiftKey) this.take(this.at);
    else if (event.key === "Escape") {
      this.hide();
      event.stopPropagation();
    } else return;
    event.preventDefault();
  }

  take(at) {
    const { text, kind } = this.items[at],
      end = this.input.selectionStart,
      now = situation(this.input.value.slice(0, end));
    // The list may belong to an earlier text, because candidates arrive a moment after a key was pressed.
    if (now?.kind !== this.found.kind || now.label !== this.found.label) return this.hide();
    const begin = end - now.word.length;
    const written = kind === "value" ? text.replace(/[\\"]/g, "\\$&").replace(/\n/g, "\\n") : text;
    this.input.setRangeText(`${written}${kind === "function" ? "(" : ""}`, begin, end, "end");
    this.hide();
    this.input.dispatchEvent(new Event("change"));
  }
}
