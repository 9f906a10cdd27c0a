// Makes parts of PromQL queries: selectors, for any values; windows of rates; the highest series.

const quoted = (value) => `"${String(value).replace(/[\\"\n]/g, (one) => (one === "\n" ? "\\n" : "\\" + one))}"`;

/** Return the matchers of a selector: `namespace="shop"` for {namespace: "shop"}. more: text that is appended. */
export function matchers(labels, more = "") {
  const parts = Object.entries(labels)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${quoted(value)}`);
  return [...parts, ...(more ? [more] : [])].join(",");
}

const NICE = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400, 172_800, 604_800];
const POINTS = 280;

/**
 * Return the time of a view's queries in seconds: {from, to, step, count, span, rate, whole}. rate: the window of rates,
 * long enough for two scrapes. whole: the window of the whole range. The ends are multiples of the step, so that values
 * do not change when the range moves on.
 */
export function timeOf({ from, to }, interval) {
  const span = Math.max(1, (to - from) / 1000);
  const least = Math.max(1, Math.ceil(interval));
  const step = Math.max(least, NICE.find((one) => span / one <= POINTS) ?? Math.ceil(span / POINTS));
  const begin = Math.floor(from / 1000 / step) * step,
    end = Math.floor(to / 1000 / step) * step;
  const rate = Math.ceil(Math.max(interval * 4, step + interval));
  return {
    from: begin,
    to: Math.max(end, begin),
    step,
    count: Math.max(0, Math.round((end - begin) / step)) + 1,
    span: Math.ceil(span),
    rate: `${rate}s`,
    whole: `${Math.ceil(span)}s`,
    now: to,
  };
}

/** Return true when a time range (of `timeOf`) ends at the present. */
export const isPresent = (time) => Date.now() - time.now < 60_000;

// Matches containers of pods, without the additional series of each pod's sandbox.
const CONTAINERS = 'container!="",container!="POD"';

/** Return the query for the CPU usage of containers in cores. window: of the rate. at: an `@` modifier. */
export const cpu = (labels, window, at = "") =>
  `rate(container_cpu_usage_seconds_total{${matchers(labels, CONTAINERS)}}[${window}]${at})`;
export const memory = (labels) => `container_memory_working_set_bytes{${matchers(labels, CONTAINERS)}}`;
export const received = (labels, window) =>
  `rate(container_network_receive_bytes_total{${matchers(labels, 'pod!=""')}}[${window}])`;
export const sent = (labels, window) =>
  `rate(container_network_transmit_bytes_total{${matchers(labels, 'pod!=""')}}[${window}])`;

/** Return the sum of rates by labels, only of the highest series over the whole range. of: (window, at) => rate. */
export const topRates = (count, by, of, time) =>
  `sum by (${by}) (${of(time.rate, "")}) and topk(${count}, sum by (${by}) (${of(time.whole, " @ end()")}))`;

/** Return the sum of a gauge by labels, only of the highest series over the whole range. */
export const topGauges = (count, by, gauge, time) =>
  `sum by (${by}) (${gauge}) and topk(${count}, sum by (${by}) (avg_over_time(${gauge}[${time.whole}] @ end())))`;

/** Return quantiles of a histogram by labels ("" for none). selector: of the buckets, `name{...}`. */
export const quantile = (q, selector, window, by = "") =>
  `histogram_quantile(${q}, sum by (le${by ? ", " + by : ""}) (rate(${selector}[${window}])))`;
