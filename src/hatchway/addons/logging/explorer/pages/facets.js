// The fields beside the list: their most frequent values with counts; each can be included or excluded.

import { byId, h, icon } from "./dom.js";
import { FIELDS, LEVELS, NONE } from "./fields.js";
import { filter, state } from "./state.js";
import { count } from "./text.js";

const FEW = 7, MANY = 50;
const wide = new Set(); // fields of which many values are shown
const closed = new Set(["node", "stream"]);

/** Return the aggregations to request: terms of each field. */
export function facetRequest(fields = Object.keys(FIELDS)) {
  return Object.fromEntries(fields.map((name) => [`f_${name}`, { terms: { field: FIELDS[name].exact, size: MANY, ...(name === "level" && { missing: NONE }) } }]));
}

/** Return the fields with included values. Their counts need a request without these values. */
export const includedFields = () => [...new Set(state.filters.filter((one) => !one.not).map((one) => one.field))];

/** Show the facets of one or more answers. */
export function showFacets(aggregations) {
  const focused = document.activeElement?.dataset?.facet;
  byId("facets").replaceChildren(...Object.keys(FIELDS).map((name) => section(name, aggregations[`f_${name}`] || { buckets: [] })));
  if (focused) document.querySelector(`[data-facet="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  showFacets.last = aggregations;
}

function section(name, found) {
  let values = found.buckets.map((bucket) => [String(bucket.key), bucket.doc_count]);
  // A value that is included or excluded is always shown, even when no line has it.
  for (const one of state.filters) if (one.field === name && !values.some(([value]) => value === one.value)) values.push([one.value, 0]);
  if (name === "level") values = values.map(([value, number]) => [LEVELS.includes(value) ? value : NONE, number]).sort((a, b) => LEVELS.indexOf(a[0]) - LEVELS.indexOf(b[0]));
  const highest = Math.max(1, ...values.map(([, number]) => number));
  const shown = wide.has(name) || name === "level" ? values : values.slice(0, FEW);
  const more = values.length - shown.length, beyond = found.sum_other_doc_count || 0;
  const section = h("details.facet", { open: !closed.has(name), ontoggle: () => (section.open ? closed.delete(name) : closed.add(name)) },
    h("summary", {}, icon("chevron", 14), FIELDS[name].label, h("span.count", {}, values.length ? `${count(values.length)}${beyond ? "+" : ""}` : "")),
    h("ul", {}, ...shown.map(([value, number]) => row(name, value, number, highest))),
    more > 0 || wide.has(name) ? h("button.more", { type: "button", "data-facet": `${name} more`, onclick: () => { wide.has(name) ? wide.delete(name) : wide.add(name); showFacets(showFacets.last); } }, more > 0 ? `${more} more` : "Fewer") : "",
    wide.has(name) && beyond ? h("p.quiet", {}, `and others with ${count(beyond)} lines: search for ${FIELDS[name].path}:NAME`) : "");
  return section;
}

function row(name, value, number, highest) {
  const known = state.filters.find((one) => one.field === name && one.value === value);
  const label = `${FIELDS[name].label} ${value}`;
  const bar = h("span.share");
  bar.style.width = `${((number / highest) * 100).toFixed(1)}%`;
  return h(`li${known ? (known.not ? ".excluded" : ".included") : ""}`, {},
    h("button.value", { type: "button", "aria-pressed": String(known?.not === false), title: `Only ${value}`, "data-facet": `${name}+${value}`, onclick: () => filter(name, value, false) },
      bar, name === "level" ? h(`i.level-${value}`) : "", h("span.name", {}, name === "level" && value === NONE ? "no level" : value), h("span.count", {}, count(number))),
    h("button.icon", { type: "button", "aria-pressed": String(known?.not === true), "aria-label": `Without ${label}`, title: `Without ${value}`, "data-facet": `${name}-${value}`, onclick: () => filter(name, value, true) }, icon("minus", 14)));
}

/** Show a chip for each value that is included or excluded. */
export function showChips() {
  byId("chips").replaceChildren(...state.filters.map(({ field, value, not }) => h(`span.chip${not ? ".not" : ""}`, {},
    h("span", {}, not ? "not " : "", `${FIELDS[field].label.toLowerCase()}: `, h("b", {}, value)),
    h("button.icon", { type: "button", "aria-label": `Remove ${not ? "not " : ""}${FIELDS[field].label} ${value}`, onclick: () => filter(field, value, not) }, icon("cross", 12)))));
  byId("chips").hidden = !state.filters.length;
}
