// A panel: a title with a chart and its legend, or with a sentence when there is nothing to draw.

import { Chart } from "./chart.js";
import { variable } from "./colours.js";
import { h, icon } from "./dom.js";
import { Legend } from "./legend.js";
import { shown, tellingNames } from "./plain.js";
import { instant, overRange } from "./clusterquery.js";
import { MOST_SERIES } from "./prometheus.js";
import { address, zoom } from "./state.js";
import { UNIT_NAMES, counted } from "./units.js";
import { whyNothing } from "./why.js";

/**
 * One panel. spec:
 *   title, unit, stack, min, max, height: options of the chart; strip: true for a low chart without values at its side;
 *     note: a text beside the title.
 *   queries: (time) => [{q, name, href, colour, dash, line}]; q is PromQL; name and href are functions that return a
 *     text for labels (name may also be a text); colour, dash and line are as in chart.js.
 *   of: (time) => PromQL that counts all series, for queries that return only the highest ones.
 *   empty: the sentence for queries that succeed without a result; needs: the metric that must exist (why.js).
 *   quietly: true when a panel without series is left out.
 */
export class Panel {
  constructor(spec) {
    this.spec = spec;
    this.chartBox = h("div.chart", {});
    this.message = h("div.message", { hidden: true });
    this.note = h("p.note", { hidden: true });
    this.explore = h(
      "a.icon.small",
      { "aria-label": `Explore ${spec.title}`, title: "Open the queries in Explore" },
      icon("query", 15),
    );
    this.legend = new Legend((hidden) => this.chart.hide(hidden), spec.unit);
    const unit = UNIT_NAMES[spec.unit];
    this.element = h(
      spec.strip ? "section.panel.strip" : "section.panel",
      { "aria-label": spec.title, "data-panel": spec.title },
      h(
        "div.panel-head",
        {},
        h("h3", {}, spec.title),
        unit ? h("span.quiet", {}, unit) : "",
        spec.note ? h("span.quiet", {}, spec.note) : "",
        h("span.gap", {}),
        this.explore,
      ),
      this.chartBox,
      this.message,
      this.legend.element,
      this.note,
    );
    this.chart = new Chart(this.chartBox, {
      unit: spec.unit,
      stack: spec.stack,
      min: spec.min,
      max: spec.max,
      height: spec.height,
      strip: spec.strip,
      label: spec.title,
      zoom,
      at: (index) => this.legend.at(index),
    });
  }

  close() {
    this.chart.close();
  }

  async refresh(context) {
    const { time, signal } = context;
    const queries = this.spec.queries(time);
    this.explore.href = address(["explore"], {
      q: queries
        .map(({ q }) => q.replace(/\s*\n\s*/g, " "))
        .join("\n# and\n")
        .slice(0, 6000),
    });
    try {
      const [answers, all] = await Promise.all([
        Promise.all(queries.map(({ q }) => overRange(q, time, signal))),
        this.spec.of ? instant(`count(${this.spec.of(time)})`, time.now, signal) : null,
      ]);
      const series = queries.flatMap((query, at) => named(query, answers[at].series));
      const drawable = series.filter((one) => one.values.some((value) => value !== null));
      this.element.hidden = Boolean(this.spec.quietly) && !series.length;
      if (!drawable.length) return await this.explain(context, series.length > 0);
      this.say(null);
      this.draw(drawable, time);
      this.remark(drawable, answers, all?.rows[0]?.value ?? 0);
    } catch (error) {
      if (signal.aborted) throw error;
      this.say(error.message, true);
    }
  }

  draw(series, time) {
    // The largest in view first: this is the order of the legend and of the colours.
    const mean = (one) => one.values.reduce((sum, value) => sum + (value ?? 0), 0) / one.values.length;
    const ranked = series
      .map((one) => ({ ...one, mean: mean(one) }))
      .sort(
        (a, b) =>
          Boolean(a.line || a.dash) - Boolean(b.line || b.dash) || b.mean - a.mean || (a.name < b.name ? -1 : 1),
      );
    const made = ranked.map((one) => ({ ...one, colour: variable(one.name, one.colour) }));
    this.legend.show(made);
    this.chart.hidden = this.legend.hidden;
    this.chart.show(made, time);
  }

  remark(series, answers, all) {
    const parts = [];
    if (all > series.length && this.spec.of)
      parts.push(`The ${series.length} highest of ${counted(all, "series", "series")}.`);
    if (answers.some((one) => one.truncated)) parts.push(`Only ${MOST_SERIES} series are drawn; there are more.`);
    this.note.textContent = parts.join(" ");
    this.note.hidden = !parts.length;
  }

  async explain(context, some) {
    this.say(some ? this.spec.empty || "There is no value in this time range." : await whyNothing(this.spec, context));
  }

  /** Show a text instead of the chart; null shows the chart. */
  say(text, bad = false) {
    this.message.hidden = text === null;
    this.chartBox.hidden = text !== null;
    if (text !== null) {
      this.legend.element.hidden = true;
      this.note.hidden = true;
      this.legend.key = null;
    }
    this.message.classList.toggle("bad", bad);
    this.message.replaceChildren(...(text === null ? [] : [bad ? icon("warn") : "", h("p", {}, text)]));
  }
}

/** Return series with unique names: from the query's function, or from the labels in which they differ. */
export function named(query, series) {
  const { name, href, q: _, ...rest } = query;
  const telling = name === undefined ? tellingNames(series.map((one) => one.labels)) : null;
  const seen = new Map();
  return series.map(({ labels, values }, at) => {
    let text = telling ? telling[at] : shown(typeof name === "function" ? name(labels) : name);
    const times = (seen.get(text) ?? 0) + 1;
    seen.set(text, times);
    if (times > 1) text = `${text} (${times})`;
    return { ...rest, name: text, values, labels, href: href?.(labels) };
  });
}
