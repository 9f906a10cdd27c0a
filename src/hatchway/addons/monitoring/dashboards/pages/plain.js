// Makes texts from series safe to show: label values may contain any characters.

const LONGEST = 200;

/** Return a label's value as one short line, with visible control and direction characters. */
export function shown(text) {
  const plain = String(text).replace(
    /[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    "\ufffd",
  );
  return plain.length > LONGEST ? `${plain.slice(0, LONGEST - 1)}…` : plain;
}

/** Return labels as PromQL writes them: name{a="b"}. */
export function labelsText(labels, leaveOut = []) {
  const { __name__: name = "", ...rest } = labels;
  const parts = Object.entries(rest)
    .filter(([key]) => !leaveOut.includes(key))
    .map(([key, value]) => `${key}="${shown(value)}"`);
  return parts.length || !name ? `${name}{${parts.join(", ")}}` : name;
}

/** Return the labels in which series differ: labels that are equal in all series are left out. */
export function tellingNames(all) {
  const names = [...new Set(all.flatMap((labels) => Object.keys(labels)))];
  const same = names.filter((name) => all.every((labels) => labels[name] === all[0][name]));
  const leaveOut = all.length > 1 ? same : [];
  return all.map((labels) => {
    const { __name__: name, ...rest } = labels;
    const kept = Object.keys(rest).filter((key) => !leaveOut.includes(key));
    if (kept.length === 1 && (all.length > 1 || !name)) return shown(rest[kept[0]]);
    return kept.length
      ? labelsText({
          ...(leaveOut.includes("__name__") && all.length > 1 ? {} : { __name__: name ?? "" }),
          ...Object.fromEntries(kept.map((key) => [key, rest[key]])),
        })
      : shown(name ?? "value");
  });
}
