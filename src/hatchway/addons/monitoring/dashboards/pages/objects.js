// Dashboards of nodes, namespaces and pods.

import { byNamespace, phases, traffic } from "./cluster.js";
import { Panel } from "./panel.js";
import { shown } from "./plain.js";
import { Problems } from "./problems.js";
import { cpu, matchers, memory, received, sent, topGauges, topRates } from "./promql.js";
import { address } from "./state.js";
import { namespaceTable, nodeTable, podTable } from "./tables.js";
import { Tiles } from "./tiles.js";
import { digits, format } from "./units.js";

const MOST = 12;
const loaded = (value) => (value > 0.95 ? "bad" : value > 0.8 ? "warn" : undefined);
const ofNode = ({ node: name }) => address(["nodes", name]);

export function nodes() {
  return {
    title: "Nodes",
    crumbs: [],
    sections: [
      { parts: [nodeTable()] },
      {
        title: "Use",
        parts: [
          new Panel({
            title: "CPU by node",
            unit: "share",
            max: 1,
            needs: "container_cpu_usage_seconds_total",
            queries: (time) => [
              {
                q: `sum by (node) (rate(container_cpu_usage_seconds_total{id="/"}[${time.rate}]))
                  / sum by (node) (machine_cpu_cores)`,
                name: ({ node: name }) => name,
                href: ofNode,
              },
            ],
          }),
          new Panel({
            title: "Memory by node",
            unit: "share",
            max: 1,
            needs: "container_memory_working_set_bytes",
            queries: () => [
              {
                q: 'sum by (node) (container_memory_working_set_bytes{id="/"}) / sum by (node) (machine_memory_bytes)',
                name: ({ node: name }) => name,
                href: ofNode,
              },
            ],
          }),
          new Panel({
            title: "CPU of pods by node",
            unit: "cores",
            stack: true,
            needs: "container_cpu_usage_seconds_total",
            queries: (time) => [
              { q: `sum by (node) (${cpu({}, time.rate)})`, name: ({ node: name }) => name, href: ofNode },
            ],
          }),
          new Panel({
            title: "Memory of pods by node",
            unit: "bytes",
            stack: true,
            needs: "container_memory_working_set_bytes",
            queries: () => [{ q: `sum by (node) (${memory({})})`, name: ({ node: name }) => name, href: ofNode }],
          }),
        ],
      },
    ],
  };
}

const podName = ({ namespace: space, pod: name }) => (space === undefined ? name : `${space}/${name}`);
const ofPod =
  (of) =>
  ({ namespace: space, pod: name }) =>
    address(["pods", of.namespace ?? space, name]);

/** Return panels of CPU and memory by pod. of: {node} or {namespace}; with a namespace, names do not contain it. */
function byPod(of) {
  const by = of.namespace === undefined ? "namespace, pod" : "pod";
  const count = () => `count by (${by}) (${memory(of)})`;
  return [
    new Panel({
      title: "CPU by pod",
      unit: "cores",
      needs: "container_cpu_usage_seconds_total",
      queries: (time) => [
        { q: topRates(MOST, by, (window, at) => cpu(of, window, at), time), name: podName, href: ofPod(of) },
      ],
      of: count,
    }),
    new Panel({
      title: "Memory by pod",
      unit: "bytes",
      needs: "container_memory_working_set_bytes",
      queries: (time) => [{ q: topGauges(MOST, by, memory(of), time), name: podName, href: ofPod(of) }],
      of: count,
    }),
  ];
}

export function node(name) {
  const of = { node: name },
    root = matchers(of, 'id="/"');
  const condition = (kind) => `sum(kube_node_status_condition{${matchers(of, `condition="${kind}",status="true"`)}})`;
  const allocatable = (resource) => `sum(kube_node_status_allocatable{${matchers(of, `resource="${resource}"`)}})`;
  const requested = (resource) =>
    `sum(kube_pod_container_resource_requests{${matchers(of, `resource="${resource}"`)}}
      and on (namespace, pod) (kube_pod_status_phase{phase=~"Pending|Running"} == 1))`;
  return {
    title: name,
    kind: "Node",
    crumbs: [["Nodes", address(["nodes"])]],
    logs: of,
    sections: [
      {
        parts: [
          new Tiles([
            {
              title: "Ready",
              q: () => condition("Ready"),
              shown: (value) => (value ? "yes" : "no"),
              tone: (value) => (value ? "good" : "bad"),
            },
            {
              title: "CPU",
              unit: "share",
              spark: true,
              q: (time) =>
                `sum(rate(container_cpu_usage_seconds_total{${root}}[${time.rate}]))
                  / sum(machine_cpu_cores{${matchers(of)}})`,
              of: () => `sum(machine_cpu_cores{${matchers(of)}})`,
              detail: (_, cores) => (cores === null ? "" : `of ${digits(cores)} cores`),
              tone: loaded,
            },
            {
              title: "Memory",
              unit: "share",
              spark: true,
              q: () => `sum(container_memory_working_set_bytes{${root}}) / sum(machine_memory_bytes{${matchers(of)}})`,
              of: () => `sum(machine_memory_bytes{${matchers(of)}})`,
              detail: (_, bytes) => (bytes === null ? "" : `of ${format(bytes, "bytes")}`),
              tone: loaded,
            },
            {
              title: "Pods",
              unit: "count",
              spark: true,
              q: () => `count(kube_pod_info{${matchers(of)}})`,
              of: () => allocatable("pods"),
              detail: (_, all) => (all ? `of ${digits(all)}` : ""),
            },
            {
              title: "CPU requested",
              unit: "share",
              q: () => `${requested("cpu")} / ${allocatable("cpu")}`,
              tone: loaded,
            },
            {
              title: "Memory requested",
              unit: "share",
              q: () => `${requested("memory")} / ${allocatable("memory")}`,
              tone: loaded,
            },
          ]),
          new Problems(of),
        ],
      },
      {
        title: "Use",
        parts: [
          new Panel({
            title: "CPU of the machine",
            unit: "cores",
            needs: "container_cpu_usage_seconds_total",
            queries: (time) => [
              { q: `sum(rate(container_cpu_usage_seconds_total{${root}}[${time.rate}]))`, name: "used" },
              { q: `sum(${cpu(of, time.rate)})`, name: "by pods" },
              { q: `sum(machine_cpu_cores{${matchers(of)}})`, name: "all", colour: "limit", dash: [5, 4], line: true },
            ],
          }),
          new Panel({
            title: "Memory of the machine",
            unit: "bytes",
            needs: "container_memory_working_set_bytes",
            queries: () => [
              { q: `sum(container_memory_working_set_bytes{${root}})`, name: "used" },
              { q: `sum(${memory(of)})`, name: "by pods" },
              {
                q: `sum(machine_memory_bytes{${matchers(of)}})`,
                name: "all",
                colour: "limit",
                dash: [5, 4],
                line: true,
              },
            ],
          }),
          ...byPod(of),
          traffic(of, "Network of pods"),
          new Panel({
            title: "Containers",
            unit: "count",
            needs: "kubelet_running_containers",
            queries: () => [
              {
                q: `sum by (container_state) (kubelet_running_containers{${matchers(of)}})`,
                name: ({ container_state: state }) => state || "running",
              },
              { q: `sum(kubelet_running_pods{${matchers(of)}})`, name: "pods" },
            ],
          }),
        ],
      },
      { title: "Pods", parts: [podTable(of)] },
    ],
  };
}

export function namespaces() {
  return {
    title: "Namespaces",
    crumbs: [],
    sections: [{ parts: [namespaceTable()] }, { title: "Use", parts: byNamespace() }],
  };
}

export function namespace(name) {
  const of = { namespace: name };
  return {
    title: name,
    kind: "Namespace",
    crumbs: [["Namespaces", address(["namespaces"])]],
    logs: of,
    sections: [
      {
        parts: [
          new Tiles([
            {
              title: "Pods running",
              q: () => `sum(kube_pod_status_phase{${matchers(of, 'phase="Running"')}})`,
              of: () => `sum(kube_pod_status_phase{${matchers(of, 'phase!="Succeeded"')}})`,
              spark: true,
              shown: (value, all) => (all === null ? digits(value) : `${digits(value)} / ${digits(all)}`),
              tone: (value, all) => (all !== null && value < all ? "warn" : "good"),
            },
            {
              title: "CPU",
              unit: "cores",
              spark: true,
              q: (time) => `sum(${cpu(of, time.rate)})`,
              detail: () => "cores",
            },
            { title: "Memory", unit: "bytes", spark: true, q: () => `sum(${memory(of)})` },
            {
              title: "Restarts in the last hour",
              unit: "count",
              q: () => `round(sum(increase(kube_pod_container_status_restarts_total{${matchers(of)}}[1h])))`,
              tone: (value) => (value > 0 ? "warn" : "good"),
            },
          ]),
          new Problems(of),
        ],
      },
      {
        title: "Use",
        parts: [
          ...byPod(of),
          traffic(of),
          phases(of, `${matchers(of)},`),
          new Panel({
            title: "Restarts",
            unit: "count",
            quietly: true,
            queries: (time) => [
              {
                q: `sum by (pod) (kube_pod_container_status_restarts_total{${matchers(of)}})
                  and topk(${MOST}, sum by (pod)
                    (max_over_time(kube_pod_container_status_restarts_total{${matchers(of)}}[${time.whole}] @ end()))
                    > 0)`,
                name: podName,
                href: ofPod(of),
              },
            ],
          }),
          new Panel({
            title: "Replicas that are not available",
            unit: "count",
            quietly: true,
            queries: (time) => [
              {
                q: `sum by (deployment) (kube_deployment_status_replicas_unavailable{${matchers(of)}})
                  and topk(${MOST}, sum by (deployment)
                    (max_over_time(kube_deployment_status_replicas_unavailable{${matchers(of)}}[${time.whole}] @ end()))
                    > 0)`,
                name: ({ deployment }) => deployment,
              },
            ],
          }),
        ],
      },
      { title: "Pods", parts: [podTable(of)] },
    ],
  };
}

export function pods() {
  return { title: "Pods", crumbs: [], sections: [{ parts: [podTable({})] }, { title: "Use", parts: byPod({}) }] };
}

export function pod(space, name) {
  const of = { namespace: space, pod: name },
    container = ({ container: one }) => one;
  const bound = (kind, resource) =>
    `sum(kube_pod_container_resource_${kind}{${matchers(of, `resource="${resource}"`)}})`;
  const bounds = (resource) => [
    { q: bound("requests", resource), name: "requested", colour: "faint", dash: [2, 3], line: true },
    { q: bound("limits", resource), name: "limit", colour: "limit", dash: [5, 4], line: true },
  ];
  return {
    title: name,
    kind: "Pod",
    crumbs: [
      ["Namespaces", address(["namespaces"])],
      [space, address(["namespaces", space])],
    ],
    logs: of,
    sections: [
      {
        parts: [
          new Tiles([
            {
              title: "Phase",
              q: () => `sum by (phase) (kube_pod_status_phase{${matchers(of)}} == 1)`,
              shown: (_, __, { phase }) => shown(phase ?? "–"),
              tone: (_, __, { phase }) => ({ Running: "good", Failed: "bad", Pending: "warn" })[phase],
            },
            {
              title: "Containers ready",
              q: () => `sum(kube_pod_container_status_ready{${matchers(of)}})`,
              of: () => `count(kube_pod_container_info{${matchers(of)}})`,
              shown: (value, all) => (all === null ? digits(value) : `${digits(value)} / ${digits(all)}`),
              tone: (value, all) => (all !== null && value < all ? "warn" : "good"),
            },
            {
              title: "Restarts",
              unit: "count",
              q: () => `sum(kube_pod_container_status_restarts_total{${matchers(of)}})`,
              tone: (value) => (value > 0 ? "warn" : undefined),
            },
            {
              title: "CPU",
              unit: "cores",
              spark: true,
              q: (time) => `sum(${cpu(of, time.rate)})`,
              of: () => bound("limits", "cpu"),
              detail: (_, limit) => (limit ? `cores, limit ${digits(limit)}` : "cores"),
            },
            {
              title: "Memory",
              unit: "bytes",
              spark: true,
              q: () => `sum(${memory(of)})`,
              of: () => bound("limits", "memory"),
              detail: (_, limit) => (limit ? `limit ${format(limit, "bytes")}` : ""),
              tone: (value, limit) => (limit ? loaded(value / limit) : undefined),
            },
            { title: "Age", unit: "seconds", q: () => `time() - max(kube_pod_start_time{${matchers(of)}})` },
          ]),
          new Problems(of),
        ],
      },
      {
        title: "Use",
        parts: [
          new Panel({
            title: "CPU",
            unit: "cores",
            needs: "container_cpu_usage_seconds_total",
            empty: "The pod did not run in this time range.",
            queries: (time) => [{ q: `sum by (container) (${cpu(of, time.rate)})`, name: container }, ...bounds("cpu")],
          }),
          new Panel({
            title: "Memory",
            unit: "bytes",
            needs: "container_memory_working_set_bytes",
            empty: "The pod did not run in this time range.",
            queries: () => [{ q: `sum by (container) (${memory(of)})`, name: container }, ...bounds("memory")],
          }),
          new Panel({
            title: "Network",
            unit: "byterate",
            needs: "container_network_receive_bytes_total",
            empty: "The pod has no network of its own, or did not run.",
            queries: (time) => [
              { q: `sum(${received(of, time.rate)})`, name: "received", colour: "--series-0" },
              { q: `sum(${sent(of, time.rate)})`, name: "sent", colour: "--series-2" },
            ],
          }),
          new Panel({
            title: "Restarts",
            unit: "count",
            needs: "kube_pod_container_status_restarts_total",
            queries: () => [
              { q: `sum by (container) (kube_pod_container_status_restarts_total{${matchers(of)}})`, name: container },
            ],
          }),
          new Panel({
            title: "Phase",
            unit: "count",
            stack: true,
            strip: true,
            needs: "kube_pod_status_phase",
            queries: () =>
              ["Running", "Pending", "Failed", "Succeeded"].map((phase, at) => ({
                q: `max(kube_pod_status_phase{${matchers(of, `phase="${phase}"`)}}) > 0`,
                name: phase,
                colour: ["good", "warn", "bad", "faint"][at],
              })),
          }),
          new Panel({
            title: "Files written",
            unit: "bytes",
            needs: "container_fs_usage_bytes",
            empty: "No container has written files.",
            queries: () => [
              { q: `sum by (container) (container_fs_usage_bytes{${matchers(of, 'container!=""')}})`, name: container },
            ],
          }),
          new Panel({
            title: "Processes",
            unit: "count",
            needs: "container_processes",
            quietly: true,
            queries: () => [
              { q: `sum by (container) (container_processes{${matchers(of, 'container!=""')}})`, name: container },
            ],
          }),
        ],
      },
    ],
  };
}
