// Makes an Elasticsearch query from the page's search, and finds the words to mark in lines.

import { FIELDS, NONE } from "./fields.js";

// The index splits texts at all other characters, so no word in it begins with such a character.
const PLAIN = /^[\p{L}\p{N}\s]+$/u;
const OPERATORS = /(^|\s)(AND|OR|NOT)(\s|$)/;

/** Return the query of a search's text. If it is plain words, all must be found, and the last one may be the beginning of a word. Other texts are in Lucene's syntax. */
export function textQuery(text) {
  text = text.trim();
  if (!text) return { match_all: {} };
  const plain = PLAIN.test(text) && !OPERATORS.test(text);
  return { query_string: { query: plain ? `${text}*` : text, default_operator: "AND" } };
}

function oneOf(field, values) {
  const known = values.filter((value) => value !== NONE || field !== "level");
  const clauses = known.length ? [{ terms: { [FIELDS[field].exact]: known } }] : [];
  if (known.length < values.length) clauses.push({ bool: { must_not: [{ exists: { field: FIELDS[field].path } }] } });
  return clauses.length === 1 ? clauses[0] : { bool: { should: clauses, minimum_should_match: 1 } };
}

/** Return the query of a state for the time [from, to) in milliseconds. without: ignore this field's included values, so that its other values are counted. */
export function query(state, from, to, without = "") {
  const time = { range: { "@timestamp": { gte: Math.floor(from), lt: Math.ceil(to), format: "epoch_millis" } } };
  const clauses = [time], not = [];
  for (const field of Object.keys(FIELDS)) {
    const values = (wanted) => state.filters.filter((one) => one.field === field && one.not === wanted).map((one) => one.value);
    if (values(false).length && field !== without) clauses.push(oneOf(field, values(false)));
    if (values(true).length) not.push(oneOf(field, values(true)));
  }
  return { bool: { must: [textQuery(state.q)], filter: clauses, must_not: not } };
}

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const TOKEN = /(-|!|NOT\s+)?(?:[\w@.\\*-]+:)?(?:"((?:\\.|[^"\\])*)"|([^\s()":]+))/gu;

/** Return a pattern of the words to mark; null when there are none. */
export function marks(text) {
  const words = [];
  for (const match of text.replace(/[+(]/g, " ").matchAll(TOKEN)) {
    const word = (match[2] ?? match[3] ?? "").replace(/\\(.)/g, "$1");
    if (match[1] || /^(AND|OR|NOT|TO|&&|\|\|)$/.test(word) || /^[[{/<>]|[\]}]$/.test(word)) continue;
    for (const part of word.replace(/[~^][\d.]*$/, "").split(/[*?]+/)) if (/[\p{L}\p{N}]/u.test(part)) words.push(escaped(part));
  }
  if (!words.length) return null;
  words.sort((a, b) => b.length - a.length);
  return new RegExp(words.slice(0, 20).join("|"), "giu");
}
