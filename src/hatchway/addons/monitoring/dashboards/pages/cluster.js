// The dashboard of the cluster: problems, and usage by namespace.

import { nodeTable, podTable } from "./tables.js";
import { Panel } from "./panel.js";
import { Problems } from "./problems.js";
import { cpu, memory, received, sent, topGauges, topRates } from "./promql.js";
import { address } from "./state.js";
import { Tiles } from "./tiles.js";
import { digits, format } from "./units.js";

const MOST = 12;
const PHASES = { Running: "good", Pending: "warn", Failed: "bad", Succeeded: "faint", Unknown: "limit" };
const loaded = (value) => (value > 0.95 ? "bad" : value > 0.8 ? "warn" : undefined);
const ofNamespace = ({ namespace }) => address(["namespaces", namespace]);

/** Return panels of usage by namespace. */
export const byNamespace = (of = {}) => [
  new Panel({
    title: "CPU by namespace",
    unit: "cores",
    stack: true,
    needs: "container_cpu_usage_seconds_total",
    queries: (time) => [
      {
        q: topRates(MOST, "namespace", (window, at) => cpu(of, window, at), time),
        name: ({ namespace }) => namespace,
        href: ofNamespace,
      },
    ],
    of: () => `count by (namespace) (${memory(of)})`,
  }),
  new Panel({
    title: "Memory by namespace",
    unit: "bytes",
    stack: true,
    needs: "container_memory_working_set_bytes",
    queries: (time) => [
      { q: topGauges(MOST, "namespace", memory(of), time), name: ({ namespace }) => namespace, href: ofNamespace },
    ],
    of: () => `count by (namespace) (${memory(of)})`,
  }),
];

export const phases = (of, selector) =>
  new Panel({
    title: "Pods by phase",
    unit: "count",
    stack: true,
    needs: "kube_pod_status_phase",
    empty: "There is no pod.",
    queries: () =>
      Object.entries(PHASES).map(([phase, colour]) => ({
        q: `sum(kube_pod_status_phase{${selector}phase="${phase}"}) > 0`,
        name: phase,
        colour,
      })),
  });

export const traffic = (of, title = "Network") =>
  new Panel({
    title,
    unit: "byterate",
    needs: "container_network_receive_bytes_total",
    empty: "No pod has a network of its own.",
    queries: (time) => [
      { q: `sum(${received(of, time.rate)})`, name: "received", colour: "--series-0" },
      { q: `sum(${sent(of, time.rate)})`, name: "sent", colour: "--series-2" },
    ],
  });

export function cluster() {
  const tiles = new Tiles([
    {
      title: "Nodes ready",
      q: () => 'sum(kube_node_status_condition{condition="Ready",status="true"})',
      of: () => "count(kube_node_info)",
      shown: (value, all) => (all === null ? digits(value) : `${digits(value)} / ${digits(all)}`),
      tone: (value, all) => (all !== null && value < all ? "bad" : "good"),
      href: address(["nodes"]),
    },
    {
      title: "Pods running",
      q: () => 'sum(kube_pod_status_phase{phase="Running"})',
      of: () => 'sum(kube_pod_status_phase{phase!="Succeeded"})',
      spark: true,
      shown: (value, all) => (all === null ? digits(value) : `${digits(value)} / ${digits(all)}`),
      tone: (value, all) => (all !== null && value < all ? "warn" : "good"),
      href: address(["pods"]),
    },
    {
      title: "CPU",
      unit: "share",
      spark: true,
      q: (time) => `sum(rate(container_cpu_usage_seconds_total{id="/"}[${time.rate}])) / sum(machine_cpu_cores)`,
      of: (time) => `sum(${cpu({}, time.rate)})`,
      detail: (_, pods) => (pods === null ? "" : `pods use ${format(pods, "cores")} cores`),
      tone: loaded,
    },
    {
      title: "Memory",
      unit: "share",
      spark: true,
      q: () => 'sum(container_memory_working_set_bytes{id="/"}) / sum(machine_memory_bytes)',
      of: () => `sum(${memory({})})`,
      detail: (_, pods) => (pods === null ? "" : `pods use ${format(pods, "bytes")}`),
      tone: loaded,
    },
    {
      title: "Restarts in the last hour",
      q: () => "round(sum(increase(kube_pod_container_status_restarts_total[1h])))",
      unit: "count",
      tone: (value) => (value > 0 ? "warn" : "good"),
    },
    {
      title: "API server",
      unit: "rate",
      spark: true,
      q: (time) => `sum(rate(apiserver_request_total[${time.rate}]))`,
      of: (time) => `sum(rate(apiserver_request_total{code=~"5..",subresource!="proxy"}[${time.rate}]))`,
      detail: (_, errors) => (errors ? `${format(errors, "rate")} errors` : "no errors"),
      tone: (_, errors) => (errors ? "bad" : undefined),
      href: address(["apiserver"]),
    },
  ]);
  return {
    title: "Cluster",
    crumbs: [],
    logs: {},
    sections: [
      { parts: [tiles, new Problems()] },
      { title: "Use", parts: [...byNamespace(), traffic({}, "Network of pods"), phases({}, "")] },
      { title: "Nodes", parts: [nodeTable()] },
      { title: "Pods", parts: [podTable({})] },
    ],
  };
}
