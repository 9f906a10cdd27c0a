// Dashboards of services: requests through the proxy verb, and the services' own metrics.

import { Panel } from "./panel.js";
import { cpu, matchers, memory, quantile } from "./promql.js";
import { address } from "./state.js";
import { Table } from "./table.js";
import { podTable } from "./tables.js";
import { Tiles } from "./tiles.js";
import { digits } from "./units.js";

const MOST = 12;
const PROXIED = "hatchway_proxy_requests_total",
  SECONDS = "hatchway_proxy_request_duration_seconds";
const ERROR = 'code=~"5..|0"';
const NONE = "No request went through the API server's proxy verb in this time range.";
const label = ({ namespace, service: name }) => `${namespace}/${name}`;
const href = ({ namespace, service: name }) => address(["services", namespace, name]);

// The controller names an EndpointSlice after its Service, with five random characters without vowels.
const SLICE = "(.+)-[bcdfghjklmnpqrstvwxz2456789]{5}";
/** Return the query for endpoints, with the Service's name in the label `service`. */
const endpoints = (of, more = "") =>
  `label_replace(kube_endpointslice_endpoints{${matchers(of, more)}}, "service", "$1", "endpointslice", "${SLICE}")`;

/** Return the query for the endpoints of one Service, with the labels `namespace` and `pod`. */
function ofService(space, name, more = "") {
  const slices = matchers(
    { namespace: space },
    [`endpointslice=~${JSON.stringify(`${escaped(name)}(-[bcdfghjklmnpqrstvwxz2456789]{5})?`)}`, more]
      .filter(Boolean)
      .join(","),
  );
  return `label_replace(kube_endpointslice_endpoints{${slices}}, "pod", "$1", "targetref_name", "(.+)")`;
}

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

export function services() {
  const busy = (time) => `topk(${MOST}, sum by (namespace, service) (increase(${PROXIED}[${time.whole}] @ end())) > 0)`;
  return {
    title: "Services",
    crumbs: [],
    sections: [
      {
        parts: [
          new Table({
            title: "Services",
            key: ["namespace", "service"],
            needs: "kube_service_info",
            sort: "Requests",
            rows: () => "sum by (namespace, service) (kube_service_info)",
            columns: [
              { title: "Service", label: "service", href },
              { title: "Namespace", label: "namespace", href: ({ namespace }) => address(["namespaces", namespace]) },
              {
                title: "Type",
                keep: true,
                q: () => "sum by (namespace, service, type) (kube_service_spec_type)",
                text: ({ type }) => type ?? "–",
              },
              {
                title: "Endpoints ready",
                unit: "count",
                q: () => `sum by (namespace, service) (${endpoints({}, 'ready="true"')})`,
                tone: (value) => (value === 0 ? "bad" : undefined),
              },
              {
                title: "Requests",
                unit: "rate",
                bar: true,
                q: (time) => `sum by (namespace, service) (rate(${PROXIED}[${time.rate}]))`,
              },
              {
                title: "Errors",
                unit: "share",
                q: (time) =>
                  `sum by (namespace, service) (rate(${PROXIED}{${ERROR}}[${time.rate}]))
                    / sum by (namespace, service) (rate(${PROXIED}[${time.rate}]) > 0)`,
                tone: (value) => (value > 0.05 ? "bad" : value > 0 ? "warn" : undefined),
              },
              {
                title: "Half within",
                unit: "seconds",
                q: (time) => quantile(0.5, `${SECONDS}_bucket`, time.rate, "namespace, service"),
              },
              {
                title: "95% within",
                unit: "seconds",
                q: (time) => quantile(0.95, `${SECONDS}_bucket`, time.rate, "namespace, service"),
              },
            ],
          }),
        ],
      },
      {
        title: "Through the proxy verb",
        parts: [
          new Panel({
            title: "Requests by service",
            unit: "rate",
            stack: true,
            needs: PROXIED,
            empty: NONE,
            queries: (time) => [
              {
                q: `sum by (namespace, service) (rate(${PROXIED}[${time.rate}])) and ${busy(time)}`,
                name: label,
                href,
              },
            ],
          }),
          new Panel({
            title: "95% within",
            unit: "seconds",
            needs: PROXIED,
            empty: NONE,
            queries: (time) => [
              {
                q: `${quantile(0.95, `${SECONDS}_bucket`, time.rate, "namespace, service")} and ${busy(time)}`,
                name: label,
                href,
              },
            ],
          }),
          new Panel({
            title: "Requests by status",
            unit: "rate",
            stack: true,
            needs: PROXIED,
            empty: NONE,
            queries: (time) => byCode(`${PROXIED}`, "", time),
          }),
          new Panel({
            title: "Errors by service",
            unit: "rate",
            needs: PROXIED,
            empty: "No request failed in this time range.",
            queries: (time) => [
              { q: `sum by (namespace, service) (rate(${PROXIED}{${ERROR}}[${time.rate}])) > 0`, name: label, href },
            ],
          }),
        ],
      },
    ],
  };
}

const STATUS = [
  ["2..", "2xx", "good"],
  ["1..", "upgraded", "accent"],
  ["3..", "3xx", "faint"],
  ["4..", "4xx", "warn"],
  ["5..", "5xx", "bad"],
  ["0", "no answer", "limit"],
];
/** Return the queries for requests by class of status. labels: matchers as text, "" for none. */
export const byCode = (metric, labels, time, name = "code") =>
  STATUS.map(([pattern, text, colour]) => ({
    q: `sum(rate(${metric}{${labels}${labels ? "," : ""}${name}=~"${pattern}"}[${time.rate}])) > 0`,
    name: text,
    colour,
  }));

// The metrics with which common libraries count requests: the counter, its label with the status, and the buckets.
const OWN = [
  ["http_requests_total", "code", "http_request_duration_seconds_bucket"],
  ["http_requests_total", "status", "http_request_duration_seconds_bucket"],
  ["http_server_requests_seconds_count", "status", "http_server_requests_seconds_bucket"],
  [
    "http_server_request_duration_seconds_count",
    "http_response_status_code",
    "http_server_request_duration_seconds_bucket",
  ],
];

export function service(space, name) {
  const of = { namespace: space, service: name },
    own = matchers(of);
  const latency = (title, metric, more) =>
    new Panel({
      title,
      unit: "seconds",
      ...more,
      queries: (time) =>
        [
          [0.5, "half"],
          [0.95, "95%"],
          [0.99, "99%"],
        ].map(([q, text]) => ({ q: quantile(q, `${metric}{${own}}`, time.rate), name: `${text} within` })),
    });
  // Limits series to the pods behind the Service. Its endpoints name these pods.
  const only = `and on (namespace, pod) group by (namespace, pod) (${ofService(space, name)})`;
  const pod = ({ pod: one }) => one,
    open = ({ pod: one }) => address(["pods", space, one]);
  return {
    title: name,
    kind: "Service",
    crumbs: [
      ["Services", address(["services"])],
      [space, address(["namespaces", space])],
    ],
    logs: { namespace: space },
    sections: [
      {
        parts: [
          new Tiles([
            {
              title: "Endpoints ready",
              unit: "count",
              q: () => `sum(${ofService(space, name, 'ready="true"')})`,
              of: () => `count(${ofService(space, name)})`,
              zero: true,
              shown: (value, all) => (all === null ? "0" : `${digits(value)} / ${digits(all)}`),
              tone: (value, all) => (!value ? "bad" : value < all ? "warn" : "good"),
            },
            {
              title: "Requests",
              unit: "rate",
              spark: true,
              zero: true,
              q: (time) => `sum(rate(${PROXIED}{${own}}[${time.rate}]))`,
              detail: () => "proxy verb",
            },
            {
              title: "Errors",
              unit: "share",
              spark: true,
              q: (time) =>
                `(sum(rate(${PROXIED}{${matchers(of, ERROR)}}[${time.rate}])) or vector(0))
                  / (sum(rate(${PROXIED}{${own}}[${time.rate}])) > 0)`,
              tone: (value) => (value > 0.05 ? "bad" : value > 0 ? "warn" : "good"),
            },
            {
              title: "95% within",
              unit: "seconds",
              spark: true,
              q: (time) => quantile(0.95, `${SECONDS}_bucket{${own}}`, time.rate),
            },
          ]),
        ],
      },
      {
        title: "Through the proxy verb",
        parts: [
          new Panel({
            title: "Requests by status",
            unit: "rate",
            stack: true,
            needs: PROXIED,
            empty: NONE,
            queries: (time) => byCode(PROXIED, own, time),
          }),
          latency("Latency", `${SECONDS}_bucket`, { needs: PROXIED, empty: NONE }),
        ],
      },
      {
        title: "As the service counts itself",
        parts: [
          ...OWN.map(
            ([metric, status]) =>
              new Panel({
                title: `Requests by ${status}`,
                unit: "rate",
                stack: true,
                quietly: true,
                queries: (time) => [
                  {
                    q: `sum by (${status}) (rate(${metric}{${matchers(of, `${status}!=""`)}}[${time.rate}]))`,
                    name: (labels) => labels[status],
                  },
                ],
              }),
          ),
          ...[...new Set(OWN.map(([, , buckets]) => buckets))].map((buckets) =>
            latency("Latency", buckets, { quietly: true }),
          ),
        ],
        none:
          "No series of this service counts its requests. Those of services with the annotation prometheus.io/scrape " +
          "are shown here: http_requests_total, http_request_duration_seconds.",
      },
      {
        title: "Pods",
        parts: [
          new Panel({
            title: "CPU by pod",
            unit: "cores",
            needs: "container_cpu_usage_seconds_total",
            empty: "No pod is behind this service.",
            queries: (time) => [
              { q: `sum by (namespace, pod) (${cpu({ namespace: space }, time.rate)}) ${only}`, name: pod, href: open },
            ],
          }),
          new Panel({
            title: "Memory by pod",
            unit: "bytes",
            needs: "container_memory_working_set_bytes",
            empty: "No pod is behind this service.",
            queries: () => [
              { q: `sum by (namespace, pod) (${memory({ namespace: space })}) ${only}`, name: pod, href: open },
            ],
          }),
          podTable({ namespace: space }, { more: () => ` ${only}`, empty: "No pod is behind this service." }),
        ],
      },
    ],
  };
}
