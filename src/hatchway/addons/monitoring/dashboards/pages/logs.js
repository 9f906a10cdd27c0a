// Computes the log explorer's address from this page's address: both are reached in the same way.

const NAMESPACE = "kube-system",
  SERVICE = "kibana-logging",
  PORT = 5601;

// Below the proxy verb, this page's server redirects to the log explorer. The browser keeps the part after "#".
const BESIDE = "logs";

/**
 * Return the base of the log explorer's address; null when this page's address does not show it. proxied: the value in
 * facts.json.
 */
export function explorerBase(proxied, { protocol, hostname, port } = location) {
  // This page has a host name of the door: [PORT.]NAME.NS.svc.localhost, with the door's port.
  const door = /^(?:[^.]+\.)?[^.]+\.[^.]+\.(?:svc|pod)\.((?:[^.]+\.)*localhost)$/.exec(hostname);
  if (door) return `${protocol}//${SERVICE}.${NAMESPACE}.svc.${door[1]}${port ? ":" + port : ""}/`;
  // This page has a DNS name of the cluster, because it was opened inside or through a SOCKS proxy.
  const inside = /^[^.]+\.[^.]+\.svc(\.[a-z0-9.-]+)?$/.exec(hostname);
  if (inside) return `http://${SERVICE}.${NAMESPACE}.svc${inside[1] ?? ""}:${PORT}/`;
  return proxied ? BESIDE : null;
}

/**
 * Return the address of the lines of {namespace, pod, container, node} in a time range {from, to} of the state, or
 * null.
 */
export function logsAddress(values, { from, to }, proxied) {
  const base = explorerBase(proxied);
  if (!base) return null;
  const made = new URLSearchParams({ from, to });
  for (const [name, value] of Object.entries(values)) if (value) made.append("f", `+${name}=${value}`);
  return `${base}#${made}`;
}
