// Limits the queries of dashboards to series of the cluster's own parts. Any pod may export series with the same names,
// which must not change the sums.

import { instant as instantOf, overRange as overRangeOf } from "./prometheus.js";

// The job that scrapes a metric, by the beginning of the metric's name.
const JOBS = {
  container: "kubelet",
  machine: "kubelet",
  kubelet: "kubelet",
  kube: "kube-state-metrics",
  apiserver: "apiserver",
  hatchway_proxy: "apiserver",
};
// A text in quotes, which is not changed, or the name of such a metric with the brace after it.
const NAMES = /"(?:[^"\\]|\\.)*"|\b(container(?=_(?!state\b))|machine|kubelet|kube|apiserver|hatchway_proxy)_[a-z_]+\b(\s*\{)?(?!\s*(?:=|!))/g;

/** Return the query with a matcher for the job added to each metric of the cluster. */
export const ofCluster = (query) =>
  query.replace(NAMES, (found, family, brace) => {
    if (!family) return found;
    const job = `job="${JOBS[family]}"`;
    return brace ? `${found}${job},` : `${found}{${job}}`;
  });

/** Like the functions of these names in prometheus.js, but limited to the cluster's own series. */
export const instant = (query, ...rest) => instantOf(ofCluster(query), ...rest);
export const overRange = (query, ...rest) => overRangeOf(ofCluster(query), ...rest);
