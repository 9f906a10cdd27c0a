// A chart: uPlot with this page's axes, colours, gaps, values at the cursor, and the choice of a range.

import { colourOf, faded, onColours } from "./colours.js";
import { h } from "./dom.js";
import { clockOf, dateOf, words } from "./time.js";
import uPlot from "./uPlot.esm.js";
import { format, increments, spoken } from "./units.js";

const HEIGHT = 190,
  STRIP = 74;
const FONT = '10.5px Inter, ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif';
const SYNC = "dashboard";
const IN_TIP = 12;

/** Return the indices of values without neighbours, which a line does not show. */
function isolated(values) {
  const found = [];
  for (let at = 0; at < values.length; at += 1) {
    if (values[at] !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null) found.push(at);
  }
  return found;
}

/** Return the cumulative sums that a stack draws. A step without any value stays a gap. */
function stacked(series) {
  const count = series[0]?.values.length ?? 0,
    sums = new Array(count).fill(null);
  return series.map(({ values }) => {
    for (let at = 0; at < count; at += 1) if (values[at] !== null) sums[at] = (sums[at] ?? 0) + values[at];
    return sums.slice();
  });
}

/** Return the labels of the time axis. */
function timeTexts(plot, splits) {
  const days = plot.scales.x.max - plot.scales.x.min > 2 * 86_400;
  return splits.map((at) => {
    const ms = at * 1000,
      clock = clockOf(ms, splits.length > 1 && splits[1] - splits[0] < 60),
      midnight = clock.startsWith("00:00");
    return midnight ? dateOf(ms).slice(5) : days ? `${dateOf(ms).slice(5)}\n${clock}` : clock;
  });
}

/**
 * box: the element that contains the chart. options: unit; stack; min and max of the axis; strip: true for a low chart
 * without values at the side;
 * zoom(from, to) is called with milliseconds;
 * at(index) is called with the index of the values at the cursor, or null; label: the chart's name for screen readers.
 */
export class Chart {
  constructor(box, options) {
    this.box = box;
    this.options = options;
    this.hidden = new Set();
    this.shown = null;
    this.plot = null;
    this.keyed = { at: null, anchor: null };
    this.canvas = h("div.canvas", {
      tabindex: 0,
      role: "group",
      "aria-roledescription": "chart",
      onkeydown: (event) => this.key(event),
      onblur: () => this.unkey(),
    });
    this.tip = h("div.tip", { hidden: true, "aria-hidden": "true" });
    this.read = h("p.unseen", { "aria-live": "polite" });
    box.append(this.canvas, this.tip, this.read);
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(box);
    this.forget = onColours(() => this.draw());
  }

  close() {
    this.watch.disconnect();
    this.forget();
    this.plot?.destroy();
    this.plot = null;
  }

  /**
   * Draw series [{name, values, colour (a CSS variable), dash, line}] over a time {from, to, step, count}. line: not
   * part of a stack.
   */
  show(series, time) {
    this.shown = { series, time };
    // A refresh must not remove a range that is being chosen with the mouse or by keys.
    if (!this.pressed && this.keyed.at === null) this.draw();
  }

  /** Hide some series. hidden: their names. */
  hide(hidden) {
    this.hidden = hidden;
    this.draw();
  }

  visible() {
    return this.shown.series.filter((one) => !this.hidden.has(one.name));
  }

  draw() {
    if (!this.shown || !this.box.isConnected) return;
    const { time } = this.shown,
      series = this.visible();
    this.painted = this.shown;
    const xs = Array.from({ length: time.count }, (_, at) => time.from + at * time.step);
    const parts = this.options.stack ? series.filter((one) => !one.line) : [];
    const sums = stacked(parts);
    // The highest sum is drawn first, below the others.
    const order = [...parts.keys()].reverse();
    const lines = series.filter((one) => !parts.includes(one));
    const rows = [...order.map((at) => sums[at]), ...lines.map((one) => one.values)];
    this.drawn = [...order.map((at) => parts[at]), ...lines];
    const width = Math.max(120, this.box.clientWidth);
    this.plot?.destroy();
    this.plot = new uPlot(this.settings(width, order.length, lines.length), [xs, ...rows], this.canvas);
    this.plot.over.addEventListener("mousedown", () => this.press());
    this.plot.over.addEventListener("mouseenter", () => {
      this.over = true;
    });
    this.plot.over.addEventListener("mouseleave", () => {
      this.over = false;
      this.tip.hidden = true;
    });
    // After a refresh, show the values at the mouse's position again.
    if (this.over && this.last) this.plot.setCursor(this.last);
    this.describe();
  }

  settings(width, stackedCount, lineCount) {
    const { unit, min = 0, max, strip } = this.options,
      { time } = this.shown;
    const grid = { stroke: colourOf("--line"), width: 1 },
      axis = { stroke: colourOf("--faint"), font: FONT, grid, ticks: { show: false } };
    return {
      width,
      height: this.options.height || (strip ? STRIP : HEIGHT),
      padding: [10, 18, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: true, range: [time.from, Math.max(time.to, time.from + 1)] },
        y: { range: (plot, low, high) => this.limits(low, high, min, max) },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 26, space: 62, gap: 6, values: timeTexts },
        {
          ...axis,
          ...(strip && { grid: { show: false } }),
          size: 58,
          space: 34,
          gap: 6,
          incrs: increments(unit),
          values: (plot, splits) => splits.map((value) => (strip ? "" : format(value, unit))),
        },
      ],
      series: [{}, ...this.drawn.map((one, at) => this.styleOf(one, at, stackedCount, lineCount))],
      bands: Array.from({ length: Math.max(0, stackedCount - 1) }, (_, at) => ({ series: [at + 1, at + 2] })),
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        focus: { prox: 24 },
        points: {
          size: 6,
          width: 1.5,
          fill: colourOf("--surface"),
          stroke: (plot, at) => colourOf(this.drawn[at - 1]?.colour ?? "--faint"),
        },
        sync: { key: SYNC, setSeries: false },
      },
      focus: { alpha: 0.35 },
      hooks: { setCursor: [(plot) => this.moved(plot)], setSelect: [(plot) => this.chosen(plot)] },
    };
  }

  limits(low, high, min, max) {
    if (low === null || high === null) return [0, 1];
    const bottom = Math.min(min, low),
      top = Math.max(max ?? high, high);
    return [bottom, top > bottom ? top + (max !== undefined && high <= max ? 0 : (top - bottom) * 0.08) : bottom + 1];
  }

  styleOf(one, at, stackedCount, lineCount) {
    const colour = colourOf(one.colour),
      isStacked = at < stackedCount;
    const filled = isStacked
      ? faded(colour, 0.34)
      : lineCount <= 3 && !one.line && !one.dash
        ? this.fading(colour)
        : undefined;
    return {
      label: one.name,
      stroke: colour,
      width: one.line || one.dash ? 1.25 : 1.6,
      dash: one.dash,
      fill: filled,
      spanGaps: false,
      points: { show: true, size: 4, width: 0, fill: colour, filter: () => isolated(one.values) },
    };
  }

  fading(colour) {
    return (plot) => {
      const made = plot.ctx.createLinearGradient(0, plot.bbox.top, 0, plot.bbox.top + plot.bbox.height);
      made.addColorStop(0, faded(colour, 0.26));
      made.addColorStop(1, faded(colour, 0.02));
      return made;
    };
  }

  resize() {
    const width = Math.max(120, this.box.clientWidth);
    if (this.plot && width !== this.plot.width) this.plot.setSize({ width, height: this.plot.height });
  }

  moved(plot) {
    const { idx, left, top } = plot.cursor;
    if (this.over) this.last = { left, top };
    const at = idx === null || idx === undefined || left < 0 ? null : idx;
    this.options.at?.(at);
    if (this.over && at !== null && !this.pressed) this.tell(at);
    else if (at === null || this.pressed) this.tip.hidden = true;
  }

  /** Show the values at an index beside the cursor. */
  tell(at) {
    const { time } = this.shown,
      { unit } = this.options;
    const rows = this.visible()
      .map((one) => ({ one, value: one.values[at] }))
      .filter(({ value }) => value !== null && value !== undefined)
      .sort((a, b) => b.value - a.value);
    const children = rows.slice(0, IN_TIP).map(({ one, value }) => {
      const mark = h("i", {});
      mark.style.setProperty("--c", `var(${one.colour})`);
      return h("div", {}, mark, h("span", {}, one.name), h("b", {}, format(value, unit)));
    });
    const ms = (time.from + at * time.step) * 1000;
    this.tip.replaceChildren(
      h("div.when", {}, words(ms, time.step < 60 ? 1000 : 60_000)),
      ...children,
      rows.length > IN_TIP ? h("div.quiet", {}, `and ${rows.length - IN_TIP} more`) : "",
      rows.length ? "" : h("div.quiet", {}, "no value here"),
    );
    this.tip.hidden = false;
    const axis = this.plot.over.offsetLeft,
      x = axis + this.plot.valToPos(ms / 1000, "x"),
      width = this.tip.offsetWidth;
    const right = x + 14 + width <= this.box.clientWidth;
    this.tip.style.left = `${Math.round(right ? x + 14 : Math.max(0, x - 14 - width))}px`;
  }

  press() {
    this.pressed = true;
    this.tip.hidden = true;
    // Runs after uPlot's own handler, which reports the chosen range.
    document.addEventListener(
      "mouseup",
      () =>
        setTimeout(() => {
          this.pressed = false;
          if (this.shown !== this.painted) this.draw();
        }),
      { once: true },
    );
  }

  /** Handle a range that was chosen by dragging, over this chart or over one that shows the same range. */
  chosen(plot) {
    const { left, width } = plot.select;
    if (!this.pressed || width < 5) return;
    this.options.zoom?.(plot.posToVal(left, "x") * 1000, plot.posToVal(left + width, "x") * 1000);
  }

  describe() {
    const { series, time } = this.shown,
      { unit, label } = this.options;
    const last = series
      .map((one) => ({ name: one.name, value: one.values.findLast((value) => value !== null) }))
      .filter(({ value }) => value !== undefined)
      .sort((a, b) => b.value - a.value);
    const told = last
      .slice(0, 3)
      .map(({ name, value }) => `${name} ${spoken(value, unit)}`)
      .join(", ");
    this.canvas.setAttribute(
      "aria-label",
      `${label}. ${words(time.from * 1000)} to ${words(time.to * 1000)}, ${series.length} series. ` +
        `Last: ${told || "nothing"}. Arrow keys read values, with Shift they choose a range, Enter shows it.`,
    );
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!this.plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const { time } = this.shown;
    if (step) {
      const jump = event.shiftKey ? Math.max(1, Math.round(time.count / 60)) : 1;
      const before = this.keyed.at ?? (step > 0 ? -1 : time.count);
      if (event.shiftKey && this.keyed.anchor === null)
        this.keyed.anchor = Math.min(Math.max(before, 0), time.count - 1);
      if (!event.shiftKey) this.keyed.anchor = null;
      this.keyed.at = Math.min(Math.max(before + step * jump, 0), time.count - 1);
      this.readAt(this.keyed.at, this.keyed.anchor);
    } else if (event.key === "Enter" && this.keyed.anchor !== null) {
      const [a, b] = [this.keyed.anchor, this.keyed.at].sort((one, other) => one - other);
      this.options.zoom?.((time.from + a * time.step) * 1000, (time.from + b * time.step) * 1000);
    } else if (event.key === "Escape") this.unkey();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  readAt(at, anchor) {
    const { time } = this.shown,
      left = (index) => this.plot.valToPos(time.from + index * time.step, "x");
    this.plot.setCursor({ left: left(at), top: 10 });
    this.tell(at);
    const from = Math.min(at, anchor ?? at),
      to = Math.max(at, anchor ?? at);
    this.plot.setSelect(
      { left: left(from), width: left(to) - left(from), top: 0, height: this.plot.over.clientHeight },
      false,
    );
    const values = this.visible()
      .filter((one) => one.values[at] !== null && one.values[at] !== undefined)
      .sort((a, b) => b.values[at] - a.values[at])
      .slice(0, 4);
    const said = (index) => words((time.from + index * time.step) * 1000);
    const told = values.map((one) => `${one.name} ${spoken(one.values[at], this.options.unit)}`).join(", ");
    this.read.textContent = `${anchor === null ? said(at) : `${said(from)} to ${said(to)}`}: ${told || "no value"}`;
  }

  unkey() {
    this.keyed = { at: null, anchor: null };
    this.tip.hidden = true;
    this.plot?.setCursor({ left: -10, top: -10 });
    this.plot?.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    if (this.shown && this.shown !== this.painted) this.draw();
  }
}
