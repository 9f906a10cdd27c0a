// Shows all fields of an opened line, with buttons to include or exclude a value, and to show the field as a column.

import { copy, h, icon } from "./dom.js";
import { FIELDS, valueOf } from "./fields.js";
import { address, change, filter, state, toggleColumn } from "./state.js";
import { OPENED, cut, jsonOf, marked, plain, unfolded } from "./text.js";

const button = (name, label, act, pressed) => h("button.icon", { type: "button", "aria-label": label, title: label, "aria-pressed": pressed, onclick: act }, icon(name));

export function detail(hit, actions, pattern) {
  const source = hit._source, text = String(source.log ?? source.message ?? ""), object = jsonOf(plain(text));
  const rows = [field("Time", source["@timestamp"] || "")];
  for (const [name, { label }] of Object.entries(FIELDS)) {
    const value = valueOf(source, name);
    if (!value) continue;
    const isOn = (not) => String(state.filters.some((one) => one.field === name && one.value === value && one.not === not));
    rows.push(field(label, value,
      button("plus", `Only lines with ${label.toLowerCase()} ${value}`, () => filter(name, value, false), isOn(false)),
      button("minus", `No lines with ${label.toLowerCase()} ${value}`, () => filter(name, value, true), isOn(true)),
      name === "level" ? "" : button("column", `Column ${label}`, () => toggleColumn(name), String(state.columns.includes(name)))));
  }
  for (const [path, value] of object ? unfolded(object) : []) {
    rows.push(field(path, cut(plain(value), 5000),
      button("plus", `Only lines with ${path} ${value.slice(0, 80)}`, () => also(path, value, "")),
      button("minus", `No lines with ${path} ${value.slice(0, 80)}`, () => also(path, value, "NOT ")),
      button("column", `Column ${path}`, () => toggleColumn(`json:${path}`), String(state.columns.includes(`json:${path}`)))));
  }
  return h("div.detail", {},
    h("div.acts", {},
      h("button.button", { type: "button", onclick: () => actions.context(hit) }, icon("context"), "Lines around it"),
      h("button.button", { type: "button", onclick: () => copy(text, "Line") }, icon("copy"), "Copy line"),
      h("button.button", { type: "button", onclick: () => copy(linkTo(hit), "Link") }, icon("link"), "Copy link")),
    h("pre", {}, ...marked(cut(plain(text), OPENED), pattern)),
    h("dl", {}, ...rows));
}

function field(name, value, ...buttons) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, h("span", {}, value), h("span.buttons", {}, ...buttons)));
}

/** Add a value of a JSON line to the search: a phrase, because the words of a name and its value are adjacent. */
function also(path, value, not) {
  const words = (text) => text.match(/[\p{L}\p{N}]+/gu) || [];
  const found = [...words(path.split(".").at(-1)), ...words(value)].slice(0, 30).join(" ");
  const clause = `${not}log:"${found}"`;
  if (state.q.includes(clause)) return;
  change({ q: state.q.trim() ? `${/^\S+$/.test(state.q.trim()) ? state.q.trim() : `(${state.q.trim()})`} AND ${clause}` : clause });
}

/** Return a link to one line. It shows the minute before the line, newest first, so that the line is first; and opens it. */
export function linkTo(hit) {
  const at = Date.parse(hit._source["@timestamp"]);
  const around = Number.isNaN(at) ? state : { ...state, from: new Date(at - 60_000).toISOString(), to: new Date(at + 1).toISOString(), open: hit.key };
  return new URL(address(around), location.href).href;
}
