// The fields of a line that the page knows: their paths in documents, and their labels on the page.

/** The fields by their names in the page's address: {path in a document, the field for exact values, label}. */
export const FIELDS = {
  level: { path: "level", exact: "level.keyword", label: "Level" },
  namespace: { path: "kubernetes.namespace_name", exact: "kubernetes.namespace_name.keyword", label: "Namespace" },
  pod: { path: "kubernetes.pod_name", exact: "kubernetes.pod_name.keyword", label: "Pod" },
  container: { path: "kubernetes.container_name", exact: "kubernetes.container_name.keyword", label: "Container" },
  node: { path: "kubernetes.host", exact: "kubernetes.host.keyword", label: "Node" },
  stream: { path: "stream", exact: "stream.keyword", label: "Stream" },
};

// The most severe first. The first one is at the bottom of a histogram's bars.
export const LEVELS = ["fatal", "error", "warn", "info", "debug", "trace", "none"];

/** The value for documents without the field. */
export const NONE = "none";

export function valueOf(source, name) {
  let at = source;
  for (const part of FIELDS[name].path.split(".")) at = at?.[part];
  return typeof at === "string" ? at : "";
}

export const levelOf = (source) => (LEVELS.includes(source.level) ? source.level : NONE);
