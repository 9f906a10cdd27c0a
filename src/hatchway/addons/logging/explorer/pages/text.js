// Prepares the text of a line: removes terminal codes, cuts long texts, marks matches, and reads JSON.

import { h } from "./dom.js";

export const SHOWN = 1500, OPENED = 60_000;

/** Return a text without terminal colours and without parts that a carriage return overwrites. Other control characters become visible. */
export function plain(text) {
  text = text.replace(/\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g, "").replace(/[\r\n]+$/, "");
  const over = text.lastIndexOf("\r");
  return (over < 0 ? text : text.slice(over + 1)).replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "\ufffd");
}

/** Return the value of a line that is one JSON object; else null. */
export function jsonOf(text) {
  const begin = text.trimStart();
  if (begin[0] !== "{" || text.length > 256 * 1024) return null;
  try {
    const found = JSON.parse(begin);
    return found && typeof found === "object" && !Array.isArray(found) ? found : null;
  } catch {
    return null;
  }
}

const MOST_FIELDS = 200;

/** Return [path, text] of all values in a JSON object. A list of plain values is one value. */
export function unfolded(object, prefix = "", found = []) {
  for (const [name, value] of Object.entries(object)) {
    if (found.length >= MOST_FIELDS) break;
    const path = prefix ? `${prefix}.${name}` : name;
    const nested = value && typeof value === "object" && !(Array.isArray(value) && value.every((one) => typeof one !== "object"));
    if (nested && Object.keys(value).length && path.split(".").length < 8) unfolded(value, path, found);
    else found.push([path, typeof value === "string" ? value : JSON.stringify(value)]);
  }
  return found;
}

/** Return the value at a path of `unfolded`, as text; "" when there is none. */
export function valueAt(object, path) {
  for (const [name, text] of unfolded(object || {})) if (name === path) return text;
  return "";
}

// The fields with the message; and fields that the list always shows, so that they are not repeated.
const MESSAGES = ["msg", "message", "log", "event", "text", "@m"];
const KNOWN = new Set(["level", "lvl", "severity", "levelname", "log.level", "time", "ts", "timestamp", "@timestamp", "@t", ...MESSAGES]);

/** Return {message, fields} of a JSON line: its message, and [path, text] of each other field. */
export function summary(object) {
  const name = MESSAGES.find((one) => typeof object[one] === "string" && object[one] !== "");
  const fields = unfolded(object).filter(([path]) => path !== name && !(name && KNOWN.has(path)));
  return { message: name ? object[name] : "", fields };
}

/** Return the pieces of a text: <mark> elements for the words of the search, and texts. */
export function marked(text, pattern) {
  if (!pattern) return [text];
  const pieces = [];
  let at = 0, count = 0;
  for (const match of text.matchAll(pattern)) {
    if (!match[0] || ++count > 200) break;
    pieces.push(text.slice(at, match.index), h("mark", {}, match[0]));
    at = match.index + match[0].length;
  }
  pieces.push(text.slice(at));
  return pieces;
}

export const cut = (text, most) => (text.length > most ? `${text.slice(0, most)} … (${count(text.length - most)} more characters)` : text);

const NUMBER = new Intl.NumberFormat("en");
export const count = (number) => NUMBER.format(number);
export const lines = (number) => `${count(number)} line${number === 1 ? "" : "s"}`;
