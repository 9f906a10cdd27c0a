// The log explorer's address, beside this page's: as it was opened, so is the other.

const NAMESPACE = "kube-system",
  SERVICE = "kibana-logging",
  PORT = 5601;

// Below the proxy verb this page's server redirects to the log explorer; the browser takes what is behind "#" with it.
const BESIDE = "logs";

/**
 * The base of the log explorer's address; null when it cannot be known from this page's own. proxied: as facts.json
 * says.
 */
export function explorerBase(proxied, { protocol, hostname, port } = location) {
  // By host name at the door: [PORT.]NAME.NS.svc.localhost, on the door's own port.
  const door = /^(?:[^.]+\.)?[^.]+\.[^.]+\.(?:svc|pod)\.((?:[^.]+\.)*localhost)$/.exec(hostname);
  if (door) return `${protocol}//${SERVICE}.${NAMESPACE}.svc.${door[1]}${port ? ":" + port : ""}/`;
  // By the cluster's own names, from inside or through a SOCKS proxy.
  const inside = /^[^.]+\.[^.]+\.svc(\.[a-z0-9.-]+)?$/.exec(hostname);
  if (inside) return `http://${SERVICE}.${NAMESPACE}.svc${inside[1] ?? ""}:${PORT}/`;
  return proxied ? BESIDE : null;
}

/**
 * The address of the lines of {namespace, pod, container, node} in a time range {from, to} as the state has it, or
 * null.
 */
export function logsAddress(values, { from, to }, proxied) {
  const base = explorerBase(proxied);
  if (!base) return null;
  const made = new URLSearchParams({ from, to });
  for (const [name, value] of Object.entries(values)) if (value) made.append("f", `+${name}=${value}`);
  return `${base}#${made}`;
}
