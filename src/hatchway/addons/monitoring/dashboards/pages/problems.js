// The list of present problems: one query finds all of them; each gets one line.

import { h, icon } from "./dom.js";
import { shown } from "./plain.js";
import { instant } from "./clusterquery.js";
import { isPresent, matchers } from "./promql.js";
import { address } from "./state.js";
import { words } from "./time.js";
import { counted, digits } from "./units.js";
import { whyNothing } from "./why.js";

const MOST = 50;
const WAITING =
  "CrashLoopBackOff|ImagePullBackOff|ErrImagePull|ErrImageNeverPull|InvalidImageName|" +
  "CreateContainerConfigError|CreateContainerError|RunContainerError";
const BY_CONTAINER = "by (namespace, pod, container)";
/** Return the query for restarts of containers in the last hour. */
const restarts = (of) =>
  `sum ${BY_CONTAINER} (increase(kube_pod_container_status_restarts_total{${matchers(of)}}[1h]))`;
const container = (labels) => `Container ${shown(labels.container)}`;

// scope: the labels of the page's object: {namespace, pod, node}. For a node, only series with this label are used.
const RULES = {
  node: {
    bad: true,
    scopes: ["node"],
    q: (of) => `sum by (node) (kube_node_status_condition{${matchers(of, 'condition="Ready",status="true"')}}) == 0`,
    text: () => "Node is not ready",
  },
  pressure: {
    bad: true,
    scopes: ["node"],
    q: (of) =>
      `sum by (node, condition) (kube_node_status_condition{${matchers(of, 'condition!="Ready",status="true"')}}) == 1`,
    text: (labels) => `Node has ${shown(labels.condition)}`,
  },
  busy: {
    scopes: ["node"],
    q: (of) =>
      `sum by (node) (rate(container_cpu_usage_seconds_total{${matchers(of, 'id="/"')}}[5m]))
        / sum by (node) (machine_cpu_cores{${matchers(of)}}) > 0.95`,
    text: (_, value) => `Processors are ${digits(value * 100)}% busy`,
  },
  full: {
    scopes: ["node"],
    q: (of) =>
      `sum by (node) (container_memory_working_set_bytes{${matchers(of, 'id="/"')}})
        / sum by (node) (machine_memory_bytes{${matchers(of)}}) > 0.9`,
    text: (_, value) => `Memory is ${digits(value * 100)}% full`,
  },
  waiting: {
    bad: true,
    scopes: ["namespace", "pod"],
    q: (of) =>
      `sum by (namespace, pod, container, reason)
        (kube_pod_container_status_waiting_reason{${matchers(of, `reason=~"${WAITING}"`)}}) == 1`,
    text: (labels) => `${container(labels)}: ${shown(labels.reason)}`,
  },
  unschedulable: {
    bad: true,
    scopes: ["namespace", "pod"],
    q: (of) => `sum by (namespace, pod) (kube_pod_status_unschedulable{${matchers(of)}}) == 1`,
    text: () => "No node takes this pod",
  },
  failed: {
    bad: true,
    scopes: ["namespace", "pod"],
    q: (of) => `sum by (namespace, pod) (kube_pod_status_phase{${matchers(of, 'phase="Failed"')}}) == 1`,
    text: () => "Pod has failed",
  },
  killed: {
    bad: true,
    scopes: ["namespace", "pod"],
    q: (of) =>
      `sum ${BY_CONTAINER}
        (kube_pod_container_status_last_terminated_reason{${matchers(of, 'reason="OOMKilled"')}}) == 1
        and ${restarts(of)} > 0`,
    text: (labels) => `${container(labels)} used more memory than its limit and was killed`,
  },
  restarts: {
    scopes: ["namespace", "pod"],
    q: (of) => `round(${restarts(of)}) >= 1`,
    text: (labels, value) => `${container(labels)}: ${counted(value, "restart")} in the last hour`,
  },
  unready: {
    scopes: ["namespace", "pod"],
    q: (of) =>
      `(sum by (namespace, pod) (kube_pod_status_ready{${matchers(of, 'condition="false"')}}) == 1)
        and (sum by (namespace, pod) (kube_pod_status_phase{${matchers(of, 'phase="Running"')}}) == 1)`,
    text: () => "Pod runs but is not ready",
  },
  near: {
    scopes: ["namespace", "pod"],
    q: (of) =>
      `max ${BY_CONTAINER} (container_memory_working_set_bytes{${matchers(of, 'container!=""')}})
        / max ${BY_CONTAINER} (kube_pod_container_resource_limits{${matchers(of, 'resource="memory"')}}) > 0.9`,
    text: (labels, value) => `${container(labels)} uses ${digits(value * 100)}% of its memory limit`,
  },
  deployment: {
    scopes: ["namespace"],
    q: (of) => `sum by (namespace, deployment) (kube_deployment_status_replicas_unavailable{${matchers(of)}}) > 0`,
    text: (labels, value) =>
      `Deployment ${shown(labels.deployment)}: ${counted(value, "replica is", "replicas are")} not available`,
  },
  api: {
    bad: true,
    scopes: [],
    q: () => 'sum(rate(apiserver_request_total{code=~"5..",subresource!="proxy"}[5m])) > 0.01',
    text: (_, value) => `The API server answers ${digits(value * 60)} requests a minute with an error (5xx)`,
  },
  target: {
    scopes: [],
    q: () => "sum by (job, instance) (up == 0) + 1",
    text: (labels) => `${shown(labels.job)} (${shown(labels.instance)}) cannot be scraped`,
  },
};

/** Return true for a problem that only says that this add-on has just been started. */
function isOwnStart({ problem, namespace, pod, deployment }, { interval, started, pod: own }) {
  // The samples of the pod's state may be from before the pod was ready; newer ones follow within a few intervals.
  if (!own || namespace !== "kube-system" || Date.now() - started > interval * 4000) return false;
  return (problem === "unready" && pod === own) || (problem === "deployment" && own.startsWith(`${deployment}-`));
}

/** The list of problems. scope: the labels of the page's object; {} for the cluster. */
export class Problems {
  constructor(scope = {}) {
    this.scope = scope;
    const names = Object.keys(scope);
    this.rules = Object.entries(RULES).filter(([, rule]) => names.every((name) => rule.scopes.includes(name)));
    this.list = h("ul.problems", {});
    this.keys = new WeakMap(); // line element → its HTML when it was made
    this.note = h("p.note", { hidden: true });
    this.title = h("h3", {}, "What is wrong now");
    this.element = h(
      "section.panel.wide.trouble",
      { "aria-label": "What is wrong now", "data-panel": "problems", "aria-live": "polite" },
      h("div.panel-head", {}, this.title),
      this.list,
      this.note,
    );
    this.spec = { needs: "kube_pod_status_phase" };
  }

  close() {
    /* there is nothing to release */
  }

  async refresh(context) {
    const { time, signal } = context;
    const query = this.rules
      .map(([name, rule]) => `label_replace(${rule.q(this.scope)}, "problem", "${name}", "", "")`)
      .join("\nor ");
    this.title.textContent = isPresent(time) ? "What is wrong now" : `What was wrong at ${words(time.now)}`;
    try {
      const { rows: all, truncated } = await instant(query, time.now, signal, 200);
      const rows = all.filter(({ labels }) => !(isPresent(time) && isOwnStart(labels, context.facts)));
      if (!rows.length) {
        const { rows: state } = await instant("count(kube_pod_status_phase)", time.now, signal);
        const unknown = state.length ? null : await whyNothing(this.spec, context);
        this.show(
          h(
            unknown ? "li.quiet" : "li.good",
            {},
            icon(unknown ? "warn" : "good"),
            h("span", {}, unknown ? `Only half is known. ${unknown}` : "Nothing is wrong."),
          ),
        );
        this.note.hidden = true;
        return;
      }
      const ranked = rows
        .map((row) => ({ ...row, rule: RULES[row.labels.problem] }))
        .filter(({ rule }) => rule)
        .sort(
          (a, b) =>
            Boolean(b.rule.bad) - Boolean(a.rule.bad) || (JSON.stringify(a.labels) < JSON.stringify(b.labels) ? -1 : 1),
        );
      this.show(...ranked.slice(0, MOST).map((row) => this.line(row)));
      this.note.textContent =
        ranked.length > MOST ? `The first ${MOST} of ${truncated ? "more than " : ""}${ranked.length}.` : "";
      this.note.hidden = ranked.length <= MOST;
    } catch (error) {
      if (signal.aborted) throw error;
      this.show(h("li.bad", {}, icon("warn"), h("span", {}, error.message)));
      this.note.hidden = true;
    }
  }

  /** Show lines. Existing elements are kept, so that a screen reader reads only changes, and links keep the focus. */
  show(...lines) {
    lines.forEach((line, at) => {
      const there = this.list.children[at];
      this.keys.set(line, line.outerHTML);
      if (!there) this.list.append(line);
      else if (this.keys.get(there) !== line.outerHTML) {
        const focused = there.contains(document.activeElement);
        there.replaceWith(line);
        if (focused) line.querySelector("a")?.focus({ preventScroll: true });
      }
    });
    while (this.list.children.length > lines.length) this.list.lastElementChild.remove();
  }

  line({ labels, value, rule }) {
    const target = labels.pod
      ? ["pods", labels.namespace, labels.pod]
      : labels.node
        ? ["nodes", labels.node]
        : labels.namespace
          ? ["namespaces", labels.namespace]
          : labels.problem === "api"
            ? ["apiserver"]
            : null;
    const name = labels.pod
      ? `${shown(labels.namespace)}/${shown(labels.pod)}`
      : labels.node
        ? shown(labels.node)
        : labels.namespace
          ? shown(labels.namespace)
          : "";
    return h(
      rule.bad ? "li.bad" : "li.warn",
      {},
      icon(rule.bad ? "bad" : "warn"),
      h("span.unseen", {}, rule.bad ? "Error:" : "Warning:"),
      target && name ? h("a", { href: address(target) }, name) : "",
      h("span", {}, rule.text(labels, value)),
    );
  }
}
