// The dashboard of the API server: requests, latency, errors, watches, and the usage of its process.

import { Panel } from "./panel.js";
import { quantile } from "./promql.js";
import { byCode } from "./services.js";
import { Table } from "./table.js";
import { Tiles } from "./tiles.js";
import { digits, format } from "./units.js";

const TOTAL = "apiserver_request_total",
  BUCKETS = "apiserver_request_duration_seconds_bucket";
const OF_API = 'job="apiserver"';
const what = ({ resource, subresource, group }) =>
  `${resource || "(other)"}${group ? "." + group : ""}${subresource ? "/" + subresource : ""}`;
const verb = ({ verb: one }) => one;

export function apiServer() {
  const rate = (more, time) => `rate(${TOTAL}{${more}}[${time.rate}])`;
  return {
    title: "API server",
    crumbs: [],
    logs: undefined,
    sections: [
      {
        parts: [
          new Tiles([
            { title: "Requests", unit: "rate", spark: true, q: (time) => `sum(${rate("", time)})` },
            {
              title: "Errors",
              unit: "share",
              spark: true,
              q: (time) => `(sum(${rate('code=~"5.."', time)}) or vector(0)) / (sum(${rate("", time)}) > 0)`,
              tone: (value) => (value > 0.01 ? "bad" : value > 0 ? "warn" : "good"),
              detail: () => "5xx",
            },
            {
              title: "99% within",
              unit: "seconds",
              spark: true,
              q: (time) => quantile(0.99, BUCKETS, time.rate),
              detail: () => "without watches",
            },
            {
              title: "In flight",
              unit: "count",
              spark: true,
              q: () => "sum(apiserver_current_inflight_requests)",
              of: () => "sum(apiserver_longrunning_requests)",
              detail: (_, long) => (long === null ? "" : `and ${digits(long)} long-running`),
            },
            {
              title: "CPU",
              unit: "cores",
              spark: true,
              q: (time) => `sum(rate(process_cpu_seconds_total{${OF_API}}[${time.rate}]))`,
              detail: () => "cores",
            },
            {
              title: "Memory",
              unit: "bytes",
              spark: true,
              q: () => `sum(process_resident_memory_bytes{${OF_API}})`,
              of: () => `sum(process_open_fds{${OF_API}})`,
              detail: (_, open) => (open === null ? "" : `${format(open, "count")} descriptors`),
            },
          ]),
        ],
      },
      {
        title: "Requests",
        parts: [
          new Panel({
            title: "Requests by verb",
            unit: "rate",
            stack: true,
            needs: TOTAL,
            queries: (time) => [{ q: `sum by (verb) (${rate("", time)}) > 0`, name: verb }],
          }),
          new Panel({
            title: "Requests by status",
            unit: "rate",
            stack: true,
            needs: TOTAL,
            queries: (time) => byCode(TOTAL, "", time),
          }),
          new Panel({
            title: "99% within, by verb",
            unit: "seconds",
            note: "without watches and the proxy verb",
            needs: TOTAL,
            empty: "No request ended in this time range.",
            queries: (time) => [{ q: quantile(0.99, BUCKETS, time.rate, "verb"), name: verb }],
          }),
          new Panel({
            title: "Latency of all requests",
            unit: "seconds",
            needs: TOTAL,
            empty: "No request ended in this time range.",
            queries: (time) =>
              [
                [0.5, "half"],
                [0.95, "95%"],
                [0.99, "99%"],
              ].map(([q, text]) => ({ q: quantile(q, BUCKETS, time.rate), name: `${text} within` })),
          }),
          new Panel({
            title: "Errors by resource",
            unit: "rate",
            needs: TOTAL,
            empty: "No request was answered with 4xx or 5xx.",
            queries: (time) => [
              {
                q: `topk(12, sum by (group, resource, subresource, code)
                  (${rate('code=~"[45]..",code!~"404|409"', time)})) > 0`,
                name: (labels) => `${labels.code} ${what(labels)}`,
              },
            ],
            note: "404 and 409 left out",
          }),
          new Panel({
            title: "Refused before a user was known",
            unit: "rate",
            quietly: true,
            queries: (time) => [
              { q: `sum by (code) (rate(apiserver_rejected_requests_total[${time.rate}]))`, name: ({ code }) => code },
            ],
          }),
        ],
      },
      {
        title: "Watches and load",
        parts: [
          new Panel({
            title: "Watches by resource",
            unit: "count",
            stack: true,
            needs: "apiserver_registered_watchers",
            queries: () => [
              {
                q: "topk(12, sum by (group, resource, kind) (apiserver_registered_watchers))",
                name: (labels) => what({ ...labels, resource: labels.resource ?? labels.kind }),
              },
            ],
          }),
          new Panel({
            title: "In flight",
            unit: "count",
            needs: "apiserver_current_inflight_requests",
            queries: () => [
              {
                q: "sum by (request_kind) (apiserver_current_inflight_requests)",
                name: ({ request_kind: kind }) => kind,
              },
            ],
          }),
          new Panel({
            title: "Long-running requests",
            unit: "count",
            stack: true,
            needs: "apiserver_longrunning_requests",
            queries: () => [{ q: "sum by (verb) (apiserver_longrunning_requests)", name: verb }],
          }),
          new Panel({
            title: "Memory",
            unit: "bytes",
            needs: "apiserver_request_total",
            queries: () => [{ q: `process_resident_memory_bytes{${OF_API}}`, name: "resident" }],
          }),
          new Panel({
            title: "CPU",
            unit: "cores",
            needs: "apiserver_request_total",
            queries: (time) => [{ q: `rate(process_cpu_seconds_total{${OF_API}}[${time.rate}])`, name: "used" }],
          }),
        ],
      },
      {
        title: "Resources",
        parts: [
          new Table({
            title: "Requests by resource",
            key: ["group", "resource", "subresource", "verb"],
            needs: TOTAL,
            sort: "Requests",
            rows: (time) => `sum by (group, resource, subresource, verb) (rate(${TOTAL}[${time.whole}])) > 0`,
            columns: [
              { title: "Resource", text: what },
              { title: "Verb", label: "verb" },
              {
                title: "Requests",
                unit: "rate",
                bar: true,
                q: (time) => `sum by (group, resource, subresource, verb) (rate(${TOTAL}[${time.whole}]))`,
              },
              {
                title: "Errors (5xx)",
                unit: "share",
                q: (time) =>
                  `sum by (group, resource, subresource, verb) (rate(${TOTAL}{code=~"5.."}[${time.whole}]))
                    / sum by (group, resource, subresource, verb) (rate(${TOTAL}[${time.whole}]))`,
                tone: (value) => (value > 0.01 ? "bad" : undefined),
              },
              {
                title: "Half within",
                unit: "seconds",
                q: (time) => quantile(0.5, BUCKETS, time.whole, "group, resource, subresource, verb"),
              },
              {
                title: "99% within",
                unit: "seconds",
                q: (time) => quantile(0.99, BUCKETS, time.whole, "group, resource, subresource, verb"),
              },
            ],
          }),
        ],
      },
    ],
  };
}
