// Tables of objects that several dashboards contain.

import { pageLogs } from "./context.js";
import { cpu, matchers, memory } from "./promql.js";
import { shown } from "./plain.js";
import { address } from "./state.js";
import { Table } from "./table.js";

const loaded = (value) => (value > 0.95 ? "bad" : value > 0.8 ? "warn" : undefined);
const FINE = new Set(["Running", "Succeeded"]);

export const nodeTable = () =>
  new Table({
    title: "Nodes",
    key: ["node"],
    needs: "kube_node_info",
    sort: "Node",
    rows: () => "sum by (node) (kube_node_info)",
    columns: [
      { title: "Node", label: "node", href: ({ node }) => address(["nodes", node]) },
      {
        title: "State",
        q: () => 'sum by (node) (kube_node_status_condition{condition="Ready",status="true"})',
        text: (_, value) => (value === 1 ? "ready" : value === null ? "–" : "not ready"),
        tone: (value) => (value === 1 ? "good" : "bad"),
      },
      {
        title: "CPU",
        unit: "share",
        whole: true,
        tone: loaded,
        q: (time) =>
          `sum by (node) (rate(container_cpu_usage_seconds_total{id="/"}[${time.rate}]))
            / sum by (node) (machine_cpu_cores)`,
      },
      {
        title: "Memory",
        unit: "share",
        whole: true,
        tone: loaded,
        q: () => 'sum by (node) (container_memory_working_set_bytes{id="/"}) / sum by (node) (machine_memory_bytes)',
      },
      { title: "CPU of pods", unit: "cores", bar: true, q: (time) => `sum by (node) (${cpu({}, time.rate)})` },
      { title: "Memory of pods", unit: "bytes", bar: true, q: () => `sum by (node) (${memory({})})` },
      { title: "Pods", unit: "count", q: () => "count by (node) (kube_pod_info)" },
    ],
    logs: ({ node }) => pageLogs({ node }),
  });

export const namespaceTable = () =>
  new Table({
    title: "Namespaces",
    key: ["namespace"],
    needs: "kube_namespace_created",
    sort: "CPU",
    rows: () => "sum by (namespace) (kube_namespace_created)",
    columns: [
      { title: "Namespace", label: "namespace", href: ({ namespace }) => address(["namespaces", namespace]) },
      { title: "Pods", unit: "count", q: () => "count by (namespace) (kube_pod_info)" },
      { title: "CPU", unit: "cores", bar: true, q: (time) => `sum by (namespace) (${cpu({}, time.rate)})` },
      { title: "Memory", unit: "bytes", bar: true, q: () => `sum by (namespace) (${memory({})})` },
      {
        title: "Received",
        unit: "byterate",
        q: (time) => `sum by (namespace) (rate(container_network_receive_bytes_total{pod!=""}[${time.rate}]))`,
      },
      {
        title: "Sent",
        unit: "byterate",
        q: (time) => `sum by (namespace) (rate(container_network_transmit_bytes_total{pod!=""}[${time.rate}]))`,
      },
      {
        title: "Not ready",
        unit: "count",
        q: () =>
          `sum by (namespace) (kube_pod_status_ready{condition!="true"} == 1
            unless on (namespace, pod) kube_pod_status_phase{phase="Succeeded"} == 1)`,
        tone: (value) => (value ? "warn" : undefined),
      },
      {
        title: "Restarts, 1 h",
        unit: "count",
        q: () => "round(sum by (namespace) (increase(kube_pod_container_status_restarts_total[1h])))",
        tone: (value) => (value ? "warn" : undefined),
      },
    ],
    logs: ({ namespace }) => pageLogs({ namespace }),
  });

/**
 * of: labels of the pods, {namespace} or {node}. more: PromQL that limits the rows (`and on (pod) ...`), "" for none.
 */
export function podTable(of, { title = "Pods", more = () => "", empty = "There is no pod." } = {}) {
  // The matchers for series with a pod's state. These series have no label with the node.
  const state = matchers({ namespace: of.namespace });
  return new Table({
    title,
    key: ["namespace", "pod"],
    needs: "kube_pod_info",
    sort: "CPU",
    empty,
    rows: (time) => `sum by (namespace, pod, node) (kube_pod_info{${matchers(of)}})${more(time)}`,
    columns: [
      { title: "Pod", label: "pod", href: ({ namespace, pod }) => address(["pods", namespace, pod]) },
      ...(of.namespace === undefined
        ? [{ title: "Namespace", label: "namespace", href: ({ namespace }) => address(["namespaces", namespace]) }]
        : []),
      ...(of.node === undefined
        ? [{ title: "Node", label: "node", href: ({ node }) => (node ? address(["nodes", node]) : undefined) }]
        : []),
      {
        title: "State",
        keep: true,
        q: () => `sum by (namespace, pod, phase) (kube_pod_status_phase{${state}} == 1)`,
        text: ({ phase }) => shown(phase ?? "–"),
        tone: (_, { labels }) => (labels.phase === "Failed" ? "bad" : FINE.has(labels.phase) ? undefined : "warn"),
      },
      {
        title: "Waits",
        keep: true,
        optional: true,
        q: () => `sum by (namespace, pod, reason) (kube_pod_container_status_waiting_reason{${state}} == 1)`,
        text: ({ reason }, value) => (value === null ? "" : shown(reason ?? "")),
        tone: () => "bad",
      },
      {
        title: "Ready",
        q: () => `sum by (namespace, pod) (kube_pod_container_status_ready{${state}})`,
        unit: "count",
        tone: (value, { labels }) => (value === 0 && labels.phase !== "Succeeded" ? "warn" : undefined),
      },
      { title: "CPU", unit: "cores", bar: true, q: (time) => `sum by (namespace, pod) (${cpu(of, time.rate)})` },
      { title: "Memory", unit: "bytes", bar: true, q: () => `sum by (namespace, pod) (${memory(of)})` },
      {
        title: "Restarts",
        unit: "count",
        q: () => `sum by (namespace, pod) (kube_pod_container_status_restarts_total{${state}})`,
        tone: (value) => (value ? "warn" : undefined),
      },
    ],
    logs: ({ namespace, pod }) => pageLogs({ namespace, pod }),
  });
}
