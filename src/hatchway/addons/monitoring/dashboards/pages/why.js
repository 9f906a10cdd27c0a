// Explains why there is nothing to show: the store has just started, the range is before the oldest sample, or no target
// exports the series.

import { instant } from "./prometheus.js";
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

/** Return a sentence. spec: of a panel or a table: `needs`, a metric; `empty`, the sentence when its series exist. */
export async function whyNothing(spec, { time, facts, signal }) {
  const needed = [spec.needs].flat().filter(Boolean);
  if (facts.oldest === null)
    return `Nothing has been scraped yet. The first samples come after ${facts.interval} seconds.`;
  if (time.to * 1000 < facts.oldest)
    return `The store's oldest sample is from ${words(facts.oldest)}, after this time range.`;
  for (const metric of needed) {
    const giver = GIVERS.find(([beginning]) => metric.startsWith(beginning));
    if (!giver) continue;
    const { rows } = await instant(`max(up{${giver[1]}})`, time.now, signal);
    if (!rows.length) return `${giver[2]} is not among the targets that are scraped${giver[3] ? `: ${giver[3]}` : ""}.`;
    if (rows[0].value !== 1) return `${giver[2]} cannot be scraped at the moment.`;
  }
  if (Date.now() - facts.oldest < facts.interval * 3000)
    return "The first samples have just come. A rate needs two of them.";
  return spec.empty || "No series matches in this time range.";
}
