// Queries of the dashboards: only about what the cluster itself says of itself. Any pod may export a series of the same
// name, which must not change the sums.

import { instant as instantOf, overRange as overRangeOf } from "./prometheus.js";

// The job that scrapes a metric, by the beginning of its name.
const JOBS = {
  container: "kubelet",
  machine: "kubelet",
  kubelet: "kubelet",
  kube: "kube-state-metrics",
  apiserver: "apiserver",
  hatchway_proxy: "apiserver",
};
// A text in quotes, which stays as it is, or the name of such a metric with the brace that follows it.
const NAMES = /"(?:[^"\\]|\\.)*"|\b(container(?=_(?!state\b))|machine|kubelet|kube|apiserver|hatchway_proxy)_[a-z_]+\b(\s*\{)?(?!\s*(?:=|!))/g;

/** The query with a matcher of the job at each metric of the cluster. */
export const ofCluster = (query) =>
  query.replace(NAMES, (found, family, brace) => {
    if (!family) return found;
    const job = `job="${JOBS[family]}"`;
    return brace ? `${found}${job},` : `${found}{${job}}`;
  });

/** As in prometheus.js, about the cluster's own series. */
export const instant = (query, ...rest) => instantOf(ofCluster(query), ...rest);
export const overRange = (query, ...rest) => overRangeOf(ofCluster(query), ...rest);
