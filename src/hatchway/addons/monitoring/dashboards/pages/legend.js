// The legend below a chart: names that show values, hide or show series, and link to other dashboards.

import { h, icon } from "./dom.js";
import { format } from "./units.js";

const MOST = 60;

export class Legend {
  /** chosen(hidden): called with the names of the hidden series. unit: the unit of the values. */
  constructor(chosen, unit) {
    this.chosen = chosen;
    this.unit = unit;
    this.hidden = new Set();
    this.element = h("ul.legend", { "aria-label": "Series" });
    this.rows = [];
  }

  /** Show series [{name, values, colour, href}]. */
  show(series) {
    this.series = series;
    const names = new Set(series.map((one) => one.name));
    this.hidden = new Set([...this.hidden].filter((name) => names.has(name)));
    if (this.hidden.size === names.size) this.hidden.clear();
    const key = series.map((one) => `${one.name}\n${one.href ?? ""}\n${one.colour}`).join("\n\n");
    if (key !== this.key) this.build(series);
    this.key = key;
    this.mark();
    this.at(null);
  }

  build(series) {
    this.rows = series.slice(0, MOST).map((one) => {
      const value = h("b", {});
      const swatch = h("i", {});
      swatch.style.setProperty("--c", `var(${one.colour})`);
      if (one.dash) swatch.className = "dashed";
      const button = h(
        "button",
        {
          type: "button",
          title: `${one.name}\nOnly this series; with Shift or Ctrl: this one, or not`,
          onclick: (event) => this.choose(one.name, event.shiftKey || event.ctrlKey || event.metaKey),
        },
        swatch,
        h("span.series", {}, one.name),
        value,
      );
      const link = one.href
        ? h("a.go", { href: one.href, "aria-label": `Open ${one.name}`, title: `Open ${one.name}` }, icon("go", 14))
        : null;
      return { one, value, button, item: h("li", {}, button, link) };
    });
    this.element.replaceChildren(...this.rows.map(({ item }) => item));
    if (series.length > MOST) this.element.append(h("li.quiet", {}, `and ${series.length - MOST} more`));
    this.element.hidden = series.length < 2 && !series.some((one) => one.href);
  }

  /** Show the values at an index; for null, the last values. */
  at(index) {
    for (const { one, value } of this.rows) {
      const found = this.series.find((other) => other.name === one.name);
      value.textContent = format(
        index === null ? found.values.findLast((each) => each !== null) : found.values[index],
        this.unit,
      );
    }
  }

  /** Show only this series; show all series if it is already alone. With `more`, only hide or show this series. */
  choose(name, more) {
    const all = this.series.map((one) => one.name),
      alone = all.length - this.hidden.size === 1 && !this.hidden.has(name);
    if (more) this.hidden[this.hidden.has(name) ? "delete" : "add"](name);
    else this.hidden = alone ? new Set() : new Set(all.filter((one) => one !== name));
    if (this.hidden.size === all.length) this.hidden.clear();
    this.mark();
    this.chosen(this.hidden);
  }

  mark() {
    for (const { one, button } of this.rows) button.setAttribute("aria-pressed", String(!this.hidden.has(one.name)));
  }
}
