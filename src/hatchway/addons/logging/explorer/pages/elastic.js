// Elasticsearch's API, below this page's own address.

const INDICES = "logstash-*";
// GET needs only the right to read, so POST is used only for requests that are too long for an address.
const LONGEST = 6000;

/** An error of a search. column: the position of the error in the search's text, or null. */
export class SearchError extends Error {
  constructor(message, column = null) {
    super(message);
    this.column = column;
  }
}

/** Search. Returns Elasticsearch's answer; throws SearchError. */
export async function search(body, signal) {
  const text = JSON.stringify(body);
  const address = `api/${INDICES}/_search`;
  const source = new URLSearchParams({ source: text, source_content_type: "application/json" });
  let answer;
  try {
    answer = `${source}`.length < LONGEST
      ? await fetch(`${address}?${source}`, { signal, cache: "no-store", headers: { accept: "application/json" } })
      : await fetch(address, { method: "POST", body: text, signal, cache: "no-store", headers: { "content-type": "application/json", accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new SearchError("The server does not answer. Is the cluster running, and the proxy to it?");
  }
  const said = await answer.text();
  let parsed = null;
  try { parsed = JSON.parse(said); } catch { /* the answer is not Elasticsearch's, but from a server on the way */ }
  if (answer.ok && parsed?.hits) return parsed;
  throw errorOf(answer.status, parsed, said);
}

function errorOf(status, parsed, said) {
  const reason = parsed?.error?.root_cause?.[0]?.reason || parsed?.error?.reason || parsed?.message;
  if (typeof reason !== "string") return new SearchError(`The server answers with status ${status}: ${said.trim().slice(0, 300) || "nothing"}`);
  const place = /at column (\d+)/.exec(reason);
  const short = reason.replace(/^Failed to parse query \[.*?\]: /s, "");
  return new SearchError(explained(short), place ? Number(place[1]) : null);
}

function explained(reason) {
  const found = /^Encountered (.+) at column \d+$/.exec(reason);
  if (!found) return reason.slice(0, 400);
  if (found[1] === "<EOF>") return "The search ends too early: a word, a value or a bracket is missing.";
  return `${found[1]} is not expected here. Put a backslash before it, or quotation marks around the words, to search for it.`;
}
