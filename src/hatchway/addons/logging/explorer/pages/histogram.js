// The histogram: lines per interval, stacked by level or namespace. A time range is chosen by dragging or by keys.

import { byId, h, s } from "./dom.js";
import { LEVELS, NONE } from "./fields.js";
import { count, lines } from "./text.js";
import { dateOf, ticks, words } from "./time.js";

const HEIGHT = 92, AXIS = 20;
const GROUPS = 7;

/** The chart. choose: called with the two ends of the range that the user has chosen, in milliseconds. */
export class Histogram {
  constructor(box, choose) {
    this.box = box;
    this.choose = choose;
    this.shown = null;
    this.cursor = this.anchor = -1;
    this.svg = s("svg", { role: "img", tabindex: "0", class: "chart" });
    this.tip = h("div.tip", { hidden: true });
    this.box.replaceChildren(this.svg, this.tip);
    this.svg.addEventListener("pointerdown", (event) => this.press(event));
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerup", (event) => this.release(event));
    this.svg.addEventListener("pointercancel", () => this.rest());
    this.svg.addEventListener("pointerleave", () => { if (!this.pressed) this.rest(); });
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("blur", () => this.rest());
    new ResizeObserver(() => this.draw()).observe(box);
  }

  /** The number of intervals that fit into the chart. */
  get most() { return Math.max(24, Math.min(120, Math.floor(this.box.clientWidth / 9))); }

  /** Show the buckets of an answer. range: {from, to, ms} of the request; by: "level" or "namespace". */
  show(buckets, range, by) {
    const totals = new Map();
    const bars = buckets.map((bucket) => {
      const parts = new Map();
      let rest = bucket.doc_count;
      for (const one of bucket.by.buckets) {
        const group = by === "level" && !LEVELS.includes(one.key) ? NONE : one.key;
        parts.set(group, (parts.get(group) || 0) + one.doc_count);
        rest -= one.doc_count;
      }
      if (rest > 0) parts.set("", rest);
      for (const [group, number] of parts) totals.set(group, (totals.get(group) || 0) + number);
      return { at: bucket.key, total: bucket.doc_count, parts };
    });
    const order = by === "level" ? LEVELS.filter((level) => totals.has(level)) : namesOf(totals);
    this.shown = { bars, range, by, order, totals };
    this.cursor = this.anchor = -1;
    this.draw();
    this.legend();
  }

  /** Return the CSS class with the colour of a group. */
  colour(group) {
    if (this.shown.by === "level") return `level-${group || NONE}`;
    const place = this.shown.order.indexOf(group);
    return group === "" || place >= GROUPS ? "group-rest" : `group-${place}`;
  }

  draw() {
    const width = this.box.clientWidth;
    if (!this.shown || !width) return;
    const { bars, range, order } = this.shown;
    const scale = width / (range.to - range.from);
    const highest = Math.max(1, ...bars.map((bar) => bar.total));
    const made = [];
    for (const part of [0.5, 1]) {
      const y = HEIGHT - part * (HEIGHT - 12) + 0.5;
      made.push(s("line", { x1: 0, x2: width, y1: Math.round(y) + 0.5, y2: Math.round(y) + 0.5, class: "grid" }));
    }
    for (const bar of bars) {
      const left = Math.max(0, (bar.at - range.from) * scale), right = Math.min(width, (bar.at + range.ms - range.from) * scale);
      const gap = right - left > 4 ? 1.5 : 0.5;
      let y = HEIGHT;
      for (const group of [...order, ""]) {
        const number = bar.parts.get(group);
        if (!number) continue;
        const height = Math.max((number / highest) * (HEIGHT - 12), 1.5);
        y -= height;
        made.push(s("rect", { x: fixed(left), y: fixed(Math.max(y, 0)), width: fixed(Math.max(right - left - gap, 1)), height: fixed(height), class: this.colour(group) }));
      }
    }
    made.push(s("line", { x1: 0, x2: width, y1: HEIGHT + 0.5, y2: HEIGHT + 0.5, class: "axis" }));
    for (const [at, text] of ticks(range.from, range.to, width / 90)) {
      const x = (at - range.from) * scale;
      if (x < 24 || x > width - 24) continue;
      made.push(s("line", { x1: fixed(x), x2: fixed(x), y1: HEIGHT, y2: HEIGHT + 4, class: "axis" }), s("text", { x: fixed(x), y: HEIGHT + 15, "text-anchor": "middle" }, text));
    }
    if (bars.length) made.push(s("text", { x: 2, y: 9, class: "highest" }, count(highest)));
    this.selected = s("rect", { class: "chosen", y: 0, height: HEIGHT, visibility: "hidden" });
    made.push(this.selected);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT + AXIS}`);
    this.svg.setAttribute("height", HEIGHT + AXIS);
    this.svg.replaceChildren(...made);
    const total = bars.reduce((sum, bar) => sum + bar.total, 0);
    this.svg.setAttribute("aria-label", `Histogram of ${lines(total)} from ${words(range.from)} to ${words(range.to)}. Arrow keys move over the intervals, with Shift they choose a range, Enter shows it.`);
  }

  legend() {
    const { order, totals, by } = this.shown;
    const items = order.slice(0, by === "level" ? order.length : GROUPS).map((group) => h("span", {}, h(`i.${this.colour(group)}`), group === NONE && by === "level" ? "no level" : group));
    const rest = order.length > GROUPS && by !== "level" || totals.has("");
    byId("legend").replaceChildren(...items, rest ? h("span", {}, h("i.group-rest"), "others") : "");
  }

  /** Return the time below the pointer. */
  timeAt(event) {
    const box = this.svg.getBoundingClientRect(), { from, to } = this.shown.range;
    return from + (Math.min(Math.max(event.clientX - box.left, 0), box.width) / box.width) * (to - from);
  }

  press(event) {
    if (!this.shown || event.button) return;
    this.pressed = this.timeAt(event);
    this.svg.setPointerCapture(event.pointerId);
  }

  move(event) {
    if (!this.shown) return;
    const at = this.timeAt(event);
    if (this.pressed === undefined) return this.explain(at);
    this.select(this.pressed, at);
    this.tell(`${words(Math.min(this.pressed, at))} – ${words(Math.max(this.pressed, at))}`, at);
  }

  release(event) {
    if (this.pressed === undefined) return;
    const [from, to] = [this.pressed, this.timeAt(event)].sort((a, b) => a - b);
    const pixels = ((to - from) / (this.shown.range.to - this.shown.range.from)) * this.box.clientWidth;
    this.rest();
    if (pixels >= 4) return this.choose(from, to);
    // A click chooses the interval below the pointer.
    const bar = this.barAt(from);
    if (bar) this.choose(bar.at, bar.at + this.shown.range.ms);
  }

  rest() {
    this.pressed = undefined;
    this.cursor = this.anchor = -1;
    this.tip.hidden = true;
    this.selected?.setAttribute("visibility", "hidden");
  }

  barAt(time) {
    return this.shown.bars.find((bar) => bar.at <= time && time < bar.at + this.shown.range.ms);
  }

  explain(time) {
    const { ms } = this.shown.range, bar = this.barAt(time);
    if (!bar) { this.tip.hidden = true; this.selected?.setAttribute("visibility", "hidden"); return; }
    this.select(bar.at, bar.at + ms);
    const parts = [...this.shown.order, ""].filter((group) => bar.parts.get(group)).slice(0, 10);
    this.tell(null, time, h("b", {}, `${ms < 86_400_000 ? words(bar.at, ms) : dateOf(bar.at)}`), h("span.quiet", {}, ` ${lines(bar.total)}`),
      ...parts.map((group) => h("div", {}, h(`i.${this.colour(group)}`), group || "others", h("b", {}, count(bar.parts.get(group))))));
  }

  tell(text, time, ...children) {
    this.tip.replaceChildren(...(text ? [text] : children));
    this.tip.hidden = false;
    const { from, to } = this.shown.range, x = ((time - from) / (to - from)) * this.box.clientWidth;
    const left = Math.min(Math.max(x - this.tip.offsetWidth / 2, 0), this.box.clientWidth - this.tip.offsetWidth);
    this.tip.style.left = `${Math.round(left)}px`;
  }

  select(a, b) {
    const { from, to } = this.shown.range, scale = this.box.clientWidth / (to - from);
    const left = Math.max(0, (Math.min(a, b) - from) * scale);
    this.selected.setAttribute("x", fixed(left));
    this.selected.setAttribute("width", fixed(Math.max(0, (Math.min(Math.max(a, b), to) - from) * scale - left)));
    this.selected.setAttribute("visibility", "visible");
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!this.shown || event.ctrlKey || event.metaKey || event.altKey) return;
    const { from, to, ms } = this.shown.range;
    const first = this.shown.range.first, all = Math.ceil((to - first) / ms);
    if (step) {
      this.cursor = this.cursor < 0 ? (step > 0 ? 0 : all - 1) : Math.min(Math.max(this.cursor + step, 0), all - 1);
      if (!event.shiftKey || this.anchor < 0) this.anchor = this.cursor;
      const a = first + Math.min(this.cursor, this.anchor) * ms, b = first + (Math.max(this.cursor, this.anchor) + 1) * ms;
      this.explain(first + (this.cursor + 0.5) * ms);
      this.select(a, b);
    } else if (event.key === "Enter" && this.cursor >= 0) {
      const a = first + Math.min(this.cursor, this.anchor) * ms, b = first + (Math.max(this.cursor, this.anchor) + 1) * ms;
      this.choose(Math.max(a, from), Math.min(b, to));
    } else if (event.key === "Escape") this.rest();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

const fixed = (number) => number.toFixed(1);

function namesOf(totals) {
  return [...totals].filter(([group]) => group !== "").sort((a, b) => b[1] - a[1]).map(([group]) => group);
}
