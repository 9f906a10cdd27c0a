// The live tail: new lines appear at the top every second. While the list is scrolled, they wait and are counted.

import { byId, say } from "./dom.js";
import { search } from "./elastic.js";
import { query } from "./query.js";
import { state } from "./state.js";
import { count, lines } from "./text.js";

const EVERY = 1000, TOTALS = 5000;
// The most lines of one second, and of the list while it is live; the most milliseconds from the writing of a line to its
// indexing.
const MOST_AT_ONCE = 500, MOST_SHOWN = 2000, LATE = 5000;

/** actions: range() returns {from, to}; totals() updates the histogram and the counts; sort: the order of lines. */
export class LiveTail {
  constructor(list, scroller, actions) {
    Object.assign(this, { list, scroller, actions, on: false, waiting: [], missed: 0 });
    byId("came").addEventListener("click", () => { scroller.scrollTop = 0; this.show(); });
    scroller.addEventListener("scroll", () => { if (this.on && this.atTop && this.waiting.length) this.show(); }, { passive: true });
  }

  get atTop() { return this.scroller.scrollTop < 8; }

  /** Allow or forbid the live tail: a range that ends in the past gets no new lines. */
  possible(is) {
    byId("live").disabled = !is;
    if (!is && this.on) this.toggle();
  }

  toggle() {
    if (!this.on && byId("live").disabled) return say("Live needs a time range up to now");
    this.on = !this.on;
    byId("live").setAttribute("aria-pressed", String(this.on));
    document.title = this.on ? "● Logs" : "Logs";
    this.stop?.abort();
    if (this.on) this.follow((this.stop = new AbortController()).signal);
    else { this.show(); this.reset(); }
  }

  /** Note that the list was filled again. */
  reset() {
    this.waiting = [];
    this.missed = 0;
    this.note();
  }

  async follow(signal) {
    let totals = performance.now(), stale = true, wait = EVERY;
    while (!signal.aborted) {
      if (!document.hidden) {
        try {
          stale = (await this.poll(signal)) > 0 || stale;
          wait = EVERY;
          if (stale && performance.now() - totals > TOTALS && !signal.aborted) {
            totals = performance.now();
            stale = false;
            this.actions.totals();
          }
        } catch (error) {
          if (signal.aborted) return;
          wait = Math.min(wait * 2, 15_000);
          say(`Live: ${error.message}`);
        }
      }
      await new Promise((resolve) => { const timer = setTimeout(resolve, wait); signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true }); });
    }
  }

  /** Request the newest lines. Return how many are new. */
  async poll(signal) {
    const { from, to } = await this.actions.range(signal);
    const newest = Date.parse(this.list.box.querySelector(".line")?.dataset.time || "");
    const since = Number.isNaN(newest) ? from : Math.max(from, Math.min(newest, to) - LATE);
    const { hits } = await search({ query: query(state, since, to), size: MOST_AT_ONCE, sort: this.actions.sort, track_total_hits: true }, signal);
    if (signal.aborted) return 0;
    const known = new Set(this.waiting.map((hit) => `${hit._index}/${hit._id}`));
    const fresh = hits.hits.filter((hit) => !known.has(`${hit._index}/${hit._id}`) && !this.list.known.has(`${hit._index}/${hit._id}`));
    if (fresh.length === MOST_AT_ONCE) this.missed += Math.max(0, hits.total.value - MOST_AT_ONCE);
    this.waiting.push(...fresh);
    if (this.waiting.length > MOST_SHOWN) {
      this.missed += this.waiting.length - MOST_SHOWN;
      this.waiting = this.waiting.slice(-MOST_SHOWN);
    }
    if (this.atTop) this.show();
    else this.note();
    return fresh.length;
  }

  /** Show the lines that wait. */
  show() {
    if (this.waiting.length) {
      this.list.insert(this.waiting);
      this.list.bound(MOST_SHOWN);
      byId("empty").hidden = true;
      byId("head").hidden = false;
      if (this.missed) say(`${lines(this.missed)} came too quickly to be shown; a search finds them`);
    }
    this.waiting = [];
    this.missed = 0;
    this.note();
  }

  note() {
    const number = this.waiting.length + this.missed;
    byId("came").hidden = !number;
    byId("came-text").textContent = `${count(number)} new line${number === 1 ? "" : "s"}`;
  }
}
