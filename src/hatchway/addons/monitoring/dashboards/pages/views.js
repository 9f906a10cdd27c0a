// The dashboards by name: the parts of each, which refresh themselves.

import { apiServer } from "./apiserver.js";
import { cluster } from "./cluster.js";
import { explore } from "./explore.js";
import { namespace, namespaces, node, nodes, pod, pods } from "./objects.js";
import { service, services } from "./services.js";

/** [the first part of the address, title] of each entry of the bar. */
export const BAR = [
  ["", "Cluster"],
  ["nodes", "Nodes"],
  ["namespaces", "Namespaces"],
  ["pods", "Pods"],
  ["services", "Services"],
  ["apiserver", "API server"],
  ["explore", "Explore"],
];

// The dashboards by the first part of the address and the number of parts after it.
const VIEWS = {
  "": { 0: cluster },
  nodes: { 0: nodes, 1: node },
  namespaces: { 0: namespaces, 1: namespace },
  pods: { 0: pods, 2: pod },
  services: { 0: services, 2: service },
  apiserver: { 0: apiServer },
  explore: { 0: explore },
};

/**
 * Return the dashboard of an address: {title, kind, crumbs: [[text, address]], logs: labels or undefined, related:
 * [[text, address]], sections: [{title, parts}]}; null for an unknown address.
 */
export function viewOf([first = "", ...rest]) {
  const found = Object.hasOwn(VIEWS, first) ? VIEWS[first][rest.length] : undefined;
  return found ? found(...rest) : null;
}
