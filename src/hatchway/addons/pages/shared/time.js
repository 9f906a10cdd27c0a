// Times: ranges in the page's address, intervals of the histogram, and times as texts.

const UNITS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
const RELATIVE = /^now(?:-(\d{1,6})([smhdw]))?$/;

export const QUICK = [
  ["now-5m", "Last 5 minutes"], ["now-15m", "Last 15 minutes"], ["now-1h", "Last hour"], ["now-6h", "Last 6 hours"],
  ["now-24h", "Last 24 hours"], ["now-7d", "Last 7 days"], ["now-30d", "Last 30 days"], ["all", "All lines"],
];

/** Return one end of a range ("now-1h", an ISO time) in milliseconds since 1970; NaN for other texts. */
export function moment(text, now) {
  const match = RELATIVE.exec(text);
  if (match) return now - (match[1] ? Number(match[1]) * UNITS[match[2]] : 0);
  return /^\d{4}-\d\d-\d\dT/.test(text) ? Date.parse(text) : NaN;
}

export const isRelative = (to) => to === "now";

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500].map((ms) => [ms, `${ms}ms`]).concat(
  [1, 2, 5, 10, 15, 30].map((n) => [n * UNITS.s, `${n}s`]), [1, 2, 5, 10, 15, 30].map((n) => [n * UNITS.m, `${n}m`]),
  [1, 2, 3, 6, 12].map((n) => [n * UNITS.h, `${n}h`]), [1, 2, 7, 14, 30, 90, 365].map((n) => [n * UNITS.d, `${n}d`]));

/** Return the histogram's interval for a range: {ms, text, offset}, for about `most` intervals. offset: makes days begin at local midnight. */
export function interval(from, to, most) {
  const [ms, text] = STEPS.find(([step]) => (to - from) / step <= most) || STEPS.at(-1);
  const ahead = -new Date(to).getTimezoneOffset() * UNITS.m;
  const offset = ms >= UNITS.h ? (((-ahead % ms) + ms) % ms) : 0;
  return { ms, text, offset };
}

const two = (number) => String(number).padStart(2, "0");

export const dateOf = (ms) => { const d = new Date(ms); return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`; };
export const clockOf = (ms, seconds = true) => { const d = new Date(ms); return `${two(d.getHours())}:${two(d.getMinutes())}${seconds ? ":" + two(d.getSeconds()) : ""}`; };

/** Return a line's time to the millisecond, in the browser's time zone. */
export function clock(iso) {
  const ms = Date.parse(iso);
  return Number.isNaN(ms) ? iso.slice(0, 30) : `${clockOf(ms)}.${(/\.(\d+)/.exec(iso)?.[1] || "").padEnd(3, "0").slice(0, 3)}`;
}

/** Return a time as a text that sorts by time: UTC, with nine digits. */
export const sortable = (iso) => iso.replace(/(?:\.(\d+))?Z$/, (_, digits = "") => "." + digits.padEnd(9, "0") + "Z");

const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const DAYS = "Sun Mon Tue Wed Thu Fri Sat".split(" ");
export const dayOf = (ms) => { const d = new Date(ms); return `${DAYS[d.getDay()]}, ${d.getDate()} ${MONTHS[d.getMonth()]} ${d.getFullYear()}`; };
const short = (ms) => { const d = new Date(ms); return `${d.getDate()} ${MONTHS[d.getMonth()]}`; };

/** Return a time in words, without the parts that are clear from the present time. */
export function words(ms, step = 1000) {
  const clock = step < 1000 ? `${clockOf(ms)}.${String(new Date(ms).getMilliseconds()).padStart(3, "0")}` : clockOf(ms, step < UNITS.m);
  if (step >= UNITS.d) return short(ms);
  return dateOf(ms) === dateOf(Date.now()) ? clock : `${short(ms)} ${clock}`;
}

/** Return a range in words. */
export function rangeWords(from, to) {
  if (from === "all") return "All lines";
  const quick = to === "now" && QUICK.find(([value]) => value === from);
  if (quick) return quick[1];
  const match = RELATIVE.exec(from);
  if (match && to === "now") return `Last ${match[1]}${match[2]}`;
  const [a, b] = [moment(from, Date.now()), moment(to, Date.now())];
  if (to === "now") return `Since ${words(a)}`;
  const close = b - a < 10_000 ? 1 : 1000;
  return `${words(a, close)} – ${dateOf(a) === dateOf(b) ? words(b, close).replace(/^\d+ \w+ /, "") : words(b, close)}`;
}

/** Return the marks of the histogram's time axis: [ms, text], about `most` of them. */
export function ticks(from, to, most) {
  const [step] = STEPS.find(([ms]) => (to - from) / ms <= most) || STEPS.at(-1);
  const ahead = -new Date(to).getTimezoneOffset() * UNITS.m;
  const found = [];
  for (let at = Math.ceil((from + ahead) / step) * step - ahead; at <= to; at += step) {
    const text = step >= UNITS.d ? short(at) : step >= UNITS.m ? clockOf(at, false) : clockOf(at);
    found.push([at, step < 1000 ? `${clockOf(at)}.${String(new Date(at).getMilliseconds()).padStart(3, "0")}` : step < UNITS.d && clockOf(at, false) === "00:00" ? short(at) : text]);
  }
  return found;
}
