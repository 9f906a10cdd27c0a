// Explains why there is nothing to show: collection has just begun, the range is before the oldest sample, or no target
// exports the series.

import { instant } from "./prometheus.js";
import { isPresent } from "./promql.js";
import { words } from "./time.js";

// The source of a metric, by the beginning of the metric's name.
const GIVERS = [
  ["kube_", 'job="kube-state-metrics"', "kube-state-metrics", "it is part of the add-on metrics-server"],
  ["container_", 'job="kubelet",metrics_path="/metrics/cadvisor"', "the kubelets' /metrics/cadvisor", ""],
  ["machine_", 'job="kubelet",metrics_path="/metrics/cadvisor"', "the kubelets' /metrics/cadvisor", ""],
  ["kubelet_", 'job="kubelet",metrics_path="/metrics"', "the kubelets' /metrics", ""],
  ["apiserver_", 'job="apiserver"', "the API server's /metrics", ""],
  ["hatchway_proxy_", 'job="apiserver"', "the API server's /metrics", ""],
];

/** Return true while the store has so few samples that most charts are empty. */
export const isNew = ({ oldest, interval }) => oldest === null || Date.now() - oldest < interval * 4000;

/** Return a sentence. spec: of a panel or a table: `needs`, a metric; `empty`, the sentence when its series exist. */
export async function whyNothing(spec, { time, facts, signal }) {
  const needed = [spec.needs].flat().filter(Boolean);
  if (facts.oldest === null)
    return `Nothing has been scraped yet. The first samples come after ${facts.interval} seconds.`;
  const early = time.to * 1000 < facts.oldest;
  if (isPresent(time) && (early || isNew(facts))) {
    // A rate needs two samples, and charts have values only at multiples of the step.
    const first = Math.ceil((facts.oldest / 1000 + facts.interval) / time.step) * time.step * 1000;
    const when = first > Date.now() ? `at about ${words(first)}` : "in a moment";
    return `Collection has just begun, at ${words(facts.oldest)}. The first values come ${when}.`;
  }
  if (early)
    return `The store's oldest sample is from ${words(facts.oldest)}, after this time range.`;
  for (const metric of needed) {
    const giver = GIVERS.find(([beginning]) => metric.startsWith(beginning));
    if (!giver) continue;
    const { rows } = await instant(`max(up{${giver[1]}})`, time.now, signal);
    if (!rows.length) return `${giver[2]} is not among the targets that are scraped${giver[3] ? `: ${giver[3]}` : ""}.`;
    if (rows[0].value !== 1) return `${giver[2]} cannot be scraped at the moment.`;
  }
  return spec.empty || "No series matches in this time range.";
}
