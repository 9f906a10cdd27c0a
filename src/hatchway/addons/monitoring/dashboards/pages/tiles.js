// Tiles: each shows one number and its course in the time range.

import { h, s } from "./dom.js";
import { instant, overRange } from "./clusterquery.js";
import { format } from "./units.js";

const WIDTH = 120,
  HEIGHT = 30;

/** Return a small line chart; gaps stay gaps. */
function sparkline(values) {
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return null;
  const high = Math.max(...known),
    low = Math.min(0, ...known),
    span = high - low || 1;
  const x = (at) => ((at / (values.length - 1)) * WIDTH).toFixed(1),
    y = (value) => (HEIGHT - 2 - ((value - low) / span) * (HEIGHT - 5)).toFixed(1);
  let path = "",
    area = "",
    begun = null;
  values.forEach((value, at) => {
    const next = values[at + 1] ?? null;
    if (value === null) return;
    if (begun === null) {
      begun = at;
      path += `M${x(at)} ${y(value)}`;
      area += `M${x(at)} ${HEIGHT}L${x(at)} ${y(value)}`;
    } else {
      path += `L${x(at)} ${y(value)}`;
      area += `L${x(at)} ${y(value)}`;
    }
    if (next === null) {
      area += `L${x(at)} ${HEIGHT}Z`;
      begun = null;
    }
  });
  return s(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    s("path", { class: "area", d: area }),
    s("path", { class: "line", d: path }),
  );
}

/**
 * A row of tiles. specs: [{title, unit, q: (time) => PromQL with one series, of: (time) => PromQL of the whole,
 * detail: (value, whole) => text, tone: (value, whole) => "good", "warn", "bad" or undefined, spark: true for a line of
 * the time range, href, zero: true when no series means 0}]
 */
export class Tiles {
  constructor(specs) {
    this.tiles = specs.map((spec) => {
      const value = h("b.value", {}, "–"),
        detail = h("span.detail", {}),
        spark = h("div.sparks", {});
      const tile = h(
        spec.href ? "a.tile" : "div.tile",
        { href: spec.href ?? null, "data-tile": spec.title },
        h("span.what", {}, spec.title),
        h("span.figures", {}, value, detail),
        spark,
      );
      return { spec, tile, value, detail, spark };
    });
    this.element = h("div.tiles", {}, ...this.tiles.map(({ tile }) => tile));
  }

  close() {
    /* there is nothing to release */
  }

  async refresh(context) {
    await Promise.all(this.tiles.map((one) => this.fill(one, context)));
  }

  async fill({ spec, tile, value, detail, spark }, { time, signal }) {
    try {
      const [history, now, whole] = await Promise.all([
        spec.spark ? overRange(spec.q(time), time, signal, 1) : null,
        instant(spec.q(time), time.now, signal, 1),
        spec.of ? instant(spec.of(time), time.now, signal, 1) : null,
      ]);
      const found = now.rows[0]?.value ?? (spec.zero ? 0 : null),
        all = whole?.rows[0]?.value ?? null;
      const known = found !== null && !Number.isNaN(found);
      value.textContent = known
        ? spec.shown
          ? spec.shown(found, all, now.rows[0]?.labels ?? {})
          : format(found, spec.unit)
        : "–";
      detail.textContent = known && spec.detail ? (spec.detail(found, all) ?? "") : known ? "" : "no samples";
      tile.dataset.tone = (known && spec.tone?.(found, all, now.rows[0]?.labels ?? {})) || "";
      spark.replaceChildren(...[history?.series[0] && sparkline(history.series[0].values)].filter(Boolean));
    } catch (error) {
      if (signal.aborted) throw error;
      value.textContent = "–";
      detail.textContent = error.message;
      tile.dataset.tone = "";
      spark.replaceChildren();
    }
  }
}
