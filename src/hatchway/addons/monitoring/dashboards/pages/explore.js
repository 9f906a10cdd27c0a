// The page "explore": runs the user's own query, and shows the result as a chart or a table. Each query that is run is in
// the page's address, and in the browser's history.

import { Chart } from "./chart.js";
import { variable } from "./colours.js";
import { Completion } from "./complete.js";
import { copy, h, icon } from "./dom.js";
import { Legend } from "./legend.js";
import { named } from "./panel.js";
import { labelsText, shown } from "./plain.js";
import { MOST_SERIES, instant, metadata, overRange } from "./prometheus.js";
import { change, state, zoom } from "./state.js";
import { counted, format } from "./units.js";

const BETWEEN = /^[ \t]*# and[ \t]*$/m;
const MOST_QUERIES = 8,
  MOST_ROWS = 200,
  HIGHEST = 20;
const EXAMPLES = [
  ['sum by (namespace) (rate(container_cpu_usage_seconds_total{container!=""}[5m]))', "CPU by namespace"],
  [
    "histogram_quantile(0.95, sum by (le, verb) (rate(apiserver_request_duration_seconds_bucket[5m])))",
    "the API server's latency by verb",
  ],
  ["up", "what is scraped, and whether it answers"],
];

export const queriesOf = (text) =>
  text
    .split(BETWEEN)
    .map((one) => one.trim())
    .filter(Boolean)
    .slice(0, MOST_QUERIES);

/** Letters before names when there are several queries. */
const lettered = (name, at, many) => (many ? `${String.fromCharCode(65 + at)} ${name}` : name);

class Explorer {
  constructor() {
    this.input = h("textarea", {
      id: "query",
      rows: 2,
      "aria-label": "Query (PromQL)",
      "aria-describedby": "query-error",
      spellcheck: "false",
      autocomplete: "off",
      autocapitalize: "off",
      autocorrect: "off",
      maxlength: 20_000,
      placeholder: "A query, such as sum by (pod) (rate(container_cpu_usage_seconds_total[5m]))",
    });
    this.error = h("div.query-error", { id: "query-error", role: "alert", hidden: true });
    this.help = h("dl.metric-help", { hidden: true });
    this.mode = h(
      "div.switch",
      { role: "group", "aria-label": "Show as" },
      ...[
        [false, "Graph"],
        [true, "Table"],
      ].map(([table, text]) =>
        h("button", { type: "button", "data-table": String(table), onclick: () => change({ table }) }, text),
      ),
    );
    this.took = h("span.quiet", { role: "status" });
    const run = h("button.button.primary", { type: "submit", title: "Run (Enter)" }, "Run");
    const copied = h("button.button.small", { type: "button", onclick: () => copy(this.input.value, "Query") }, "Copy");
    this.form = h(
      "form.query-form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          this.run();
        },
      },
      this.input,
      h(
        "div.query-row",
        {},
        run,
        this.mode,
        this.took,
        h("span.gap", {}),
        copied,
        h("span.quiet.wide-only", {}, "Shift+Enter: a new line. A line “# and”: one more query"),
      ),
    );
    this.chartBox = h("div.chart", {});
    this.legend = new Legend((hidden) => this.chart.hide(hidden), "plain");
    this.note = h("p.note", { hidden: true });
    this.rows = h("div.scroller", { hidden: true, tabindex: 0, role: "group", "aria-label": "Result" });
    this.message = h("div.message", { hidden: true });
    this.result = h(
      "section.panel.wide",
      { "aria-label": "Result" },
      this.chartBox,
      this.rows,
      this.message,
      this.legend.element,
      this.note,
    );
    this.examples = h(
      "section.panel.wide.examples",
      { "aria-label": "Examples" },
      h("h3", {}, "Queries to begin with"),
      h(
        "ul",
        {},
        ...EXAMPLES.map(([q, text]) =>
          h(
            "li",
            {},
            h("button", { type: "button", onclick: () => change({ q }) }, h("code", {}, q)),
            h("span.quiet", {}, text),
          ),
        ),
      ),
    );
    this.element = h(
      "div.explore",
      {},
      h("section.panel.wide", { "aria-label": "Query" }, this.form, this.error, this.help),
      this.examples,
      this.result,
    );
    this.chart = new Chart(this.chartBox, {
      unit: "plain",
      min: Infinity,
      height: 320,
      label: "Result of the query",
      zoom,
      at: (index) => this.legend.at(index),
    });
    this.completion = new Completion(this.input);
    this.input.value = state.q;
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.defaultPrevented) {
        event.preventDefault();
        this.run();
      }
    });
    this.input.addEventListener("input", () => this.grow());
  }

  close() {
    this.chart.close();
    this.completion.close();
  }

  grow() {
    this.input.rows = Math.min(12, Math.max(2, this.input.value.split("\n").length));
  }

  run() {
    this.completion.hide();
    if (this.input.value === state.q) this.again?.();
    else change({ q: this.input.value });
  }

  async refresh(context) {
    if (this.asked !== state.q) this.input.value = this.asked = state.q;
    this.grow();
    for (const button of this.mode.children)
      button.setAttribute("aria-pressed", String(button.dataset.table === String(state.table)));
    const queries = queriesOf(state.q),
      begun = performance.now();
    this.examples.hidden = queries.length > 0;
    this.result.hidden = !queries.length;
    this.fault(null);
    this.explainMetrics(state.q, context.signal);
    if (!queries.length) {
      this.took.textContent = "";
      if (!document.activeElement || document.activeElement === document.body)
        this.input.focus({ preventScroll: true });
      return;
    }
    try {
      if (state.table) await this.showTable(queries, context);
      else await this.showGraph(queries, context);
      this.took.textContent = `${Math.round(performance.now() - begun)} ms`;
    } catch (error) {
      if (context.signal.aborted) throw error;
      this.took.textContent = "";
      this.result.hidden = true;
      this.fault(error, queries);
    }
  }

  /** Show the error of the query, and its position. */
  fault(error, queries = []) {
    this.error.hidden = !error;
    this.input.setAttribute("aria-invalid", String(Boolean(error)));
    if (!error) {
      this.error.replaceChildren();
      return;
    }
    const line = error.place && queries.length === 1 ? queries[0].split("\n")[error.place.line - 1] : null;
    const hint = /range vector|must be Scalar or instant Vector/.test(error.message)
      ? " A range vector has many values for one time: use rate(), or show it as a table."
      : "";
    this.error.replaceChildren(
      icon("warn"),
      h(
        "div",
        {},
        h("p", {}, error.message + hint),
        line !== null && line !== undefined
          ? h(
              "pre",
              {},
              `${shown(line.slice(0, error.place.column - 1))}`,
              h("mark", {}, shown(line.slice(error.place.column - 1, error.place.column)) || "▸"),
              shown(line.slice(error.place.column)),
            )
          : "",
      ),
    );
  }

  say(text) {
    this.message.hidden = text === null;
    this.message.replaceChildren(...(text === null ? [] : [h("p", {}, text)]));
  }

  async showGraph(queries, { time, signal }) {
    const answers = await Promise.all(queries.map((q) => overRange(q, time, signal)));
    const all = queries.flatMap((q, at) =>
      named({}, answers[at].series).map((one) => ({ ...one, name: lettered(one.name, at, queries.length > 1) })),
    );
    const series = all
      .filter((one) => one.values.some((value) => value !== null))
      .map((one) => ({ ...one, colour: variable(one.name) }));
    const at = answers.findIndex((one) => one.truncated);
    this.rows.hidden = true;
    this.chartBox.hidden = !series.length;
    this.say(
      series.length
        ? null
        : all.length
          ? "The query has no numbers in this time range, only NaN or infinities: see the table."
          : "The query has no result in this time range.",
    );
    this.note.hidden = at < 0;
    if (at >= 0) {
      const { rows } = await instant(`count(${queries[at]})`, time.now, signal).catch(() => ({ rows: [] }));
      const known =
        rows[0]?.value > MOST_SERIES ? ` of ${counted(rows[0].value, "series", "series")}` : ", there are more";
      this.note.replaceChildren(
        `${MOST_SERIES} series are drawn${known}. `,
        h(
          "button.link",
          {
            type: "button",
            onclick: () =>
              change({ q: queries.map((q, place) => (place === at ? `topk(${HIGHEST}, ${q})` : q)).join("\n# and\n") }),
          },
          `Show the ${HIGHEST} highest`,
        ),
      );
    }
    this.legend.element.hidden = !series.length;
    if (!series.length) {
      this.legend.key = null;
      return;
    }
    this.legend.show(series);
    this.legend.element.hidden = false;
    this.chart.hidden = this.legend.hidden;
    this.chart.show(series, time);
  }

  async showTable(queries, { time, signal }) {
    const answers = await Promise.all(queries.map((q) => instant(q, time.now, signal, MOST_ROWS)));
    const rows = answers.flatMap(({ rows: found, type }, at) => found.map((one) => ({ ...one, type, query: at })));
    this.chartBox.hidden = true;
    this.legend.element.hidden = true;
    this.legend.key = null;
    this.rows.hidden = !rows.length;
    this.say(rows.length ? null : "The query has no result at this time.");
    const truncated = answers.some((one) => one.truncated);
    this.note.hidden = !truncated;
    this.note.textContent = truncated ? `The first ${MOST_ROWS} rows; there are more.` : "";
    const names = [...new Set(rows.flatMap(({ labels }) => Object.keys(labels)))]
      .sort((a, b) => (a === "__name__" ? -1 : b === "__name__" ? 1 : a < b ? -1 : 1))
      .slice(0, 30);
    this.rows.replaceChildren(
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ...names.map((name) => h("th", { scope: "col" }, name === "__name__" ? "metric" : name)),
            h("th.number", { scope: "col" }, "value"),
          ),
        ),
        h(
          "tbody",
          {},
          ...rows
            .slice(0, MOST_ROWS)
            .map((row) =>
              h(
                "tr",
                {},
                ...names.map((name) =>
                  h("td", { title: shown(row.labels[name] ?? "") }, shown(row.labels[name] ?? "")),
                ),
                h("td.number", { title: titleOf(row) }, valueText(row)),
              ),
            ),
        ),
      ),
    );
  }

  async explainMetrics(text, signal) {
    try {
      this.known ??= await metadata(signal);
    } catch {
      this.known = undefined;
    }
    const names = [...new Set(text.match(/[a-zA-Z_:][\w:]*/g) ?? [])];
    const found = names
      .map((name) => [name, this.known?.[name] ?? this.known?.[name.replace(/_(bucket|sum|count|total)$/, "")]])
      .filter(([, facts]) => facts?.[0])
      .slice(0, 4);
    this.help.hidden = !found.length;
    this.help.replaceChildren(
      ...found.map(([name, [{ type, help }]]) =>
        h(
          "div",
          {},
          h("dt", {}, h("code", {}, name), h("span.quiet", {}, ` ${shown(type)}`)),
          h("dd", {}, shown(help)),
        ),
      ),
    );
  }
}

function valueText(row) {
  if (row.type === "matrix")
    return `${counted(row.values.length, "sample")}, last ${format(Number(row.values.at(-1)[1]), "plain")}`;
  return typeof row.value === "number" ? format(row.value, "plain") : shown(row.value);
}

const titleOf = (row) => (row.type === "matrix" ? labelsText(row.labels) : String(row.value));

export function explore() {
  const part = new Explorer();
  return { title: "Explore", crumbs: [], keepsPlace: true, sections: [{ parts: [part] }], part };
}
