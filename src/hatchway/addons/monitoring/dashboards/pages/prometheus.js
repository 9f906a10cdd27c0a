// Prometheus' HTTP API, below this page's own address.

// The most requests of this page that are under way at a time; the store evaluates two queries at a time.
const AT_ONCE = 4;
// GET needs only the right to read, so POST is used only for requests that are too long for an address.
const LONGEST = 6000;
/** The most series of a query that are fetched, and that are drawn. */
export const MOST_SERIES = 100;

/** An error of a query. place: the error's position in the query, {line, column} from 1, or null. */
export class QueryError extends Error {
  constructor(message, place = null) {
    super(message);
    this.place = place;
  }
}

let running = 0;
const waiting = [];

/** Wait until a request may be sent. Rejects when the signal is aborted. */
function turn(signal) {
  if (running < AT_ONCE) {
    running += 1;
    return Promise.resolve();
  }
  return new Promise((resolve, reject) => {
    const entry = {
      go: () => {
        signal?.removeEventListener("abort", leave);
        resolve();
      },
    };
    const leave = () => {
      waiting.splice(waiting.indexOf(entry), 1);
      reject(signal.reason);
    };
    signal?.addEventListener("abort", leave, { once: true });
    waiting.push(entry);
  });
}

function next() {
  const entry = waiting.shift();
  if (entry) entry.go();
  else running -= 1;
}

async function ask(path, parameters, signal) {
  signal?.throwIfAborted();
  await turn(signal);
  try {
    const query = new URLSearchParams(parameters);
    let answer, text;
    try {
      answer =
        `${query}`.length < LONGEST
          ? await fetch(`api/v1/${path}?${query}`, {
              signal,
              cache: "no-store",
              headers: { accept: "application/json" },
            })
          : await fetch(`api/v1/${path}`, {
              method: "POST",
              body: query,
              signal,
              cache: "no-store",
              headers: { accept: "application/json" },
            });
      text = await answer.text();
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new QueryError("The store does not answer. Is the cluster running, and the proxy to it?");
    }
    let parsed = null;
    try {
      parsed = JSON.parse(text);
    } catch {
      /* the answer is not from Prometheus' API, but from a server on the way */
    }
    if (answer.ok && parsed?.status === "success") return parsed;
    throw problemOf(answer.status, parsed, text);
  } finally {
    next();
  }
}

function problemOf(status, parsed, text) {
  const message =
    typeof parsed?.error === "string" ? parsed.error : typeof parsed?.message === "string" ? parsed.message : "";
  if (!message)
    return new QueryError(
      status === 503
        ? "The store is starting, or is away (503)."
        : `The store answers with status ${status}: ${text.trim().slice(0, 200) || "nothing"}`,
    );
  const found = /^(?:invalid parameter "\w+": )?(?:(\d+):(\d+): )?(?:parse error: )?(.*)$/s.exec(message);
  return new QueryError(sentence(found[3]), found[1] ? { line: Number(found[1]), column: Number(found[2]) } : null);
}

const sentence = (text) => (/^[a-z]+ /.test(text) ? text[0].toUpperCase() + text.slice(1) : text).slice(0, 600);

/** Return the value of a sample as a number; null when it cannot be drawn. */
const drawn = (text) => {
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
};
const NUMBERS = { "+Inf": Infinity, "-Inf": -Infinity };
const numberOf = (text) => NUMBERS[text] ?? Number(text);

/** Run a query for one time (milliseconds). Returns {rows: [{labels, value}], truncated, type}. */
export async function instant(query, time, signal, limit = 500) {
  const { data, warnings } = await ask("query", { query, time: time / 1000, limit }, signal);
  const truncated = Boolean(warnings?.length);
  if (data.resultType === "vector")
    return {
      type: "vector",
      truncated,
      rows: data.result.map((one) => ({ labels: one.metric, value: numberOf(one.value[1]) })),
    };
  if (data.resultType === "matrix")
    return { type: "matrix", truncated, rows: data.result.map((one) => ({ labels: one.metric, values: one.values })) };
  return {
    type: data.resultType,
    truncated,
    rows: [{ labels: {}, value: data.resultType === "scalar" ? numberOf(data.result[1]) : data.result[1] }],
  };
}

/**
 * Run a query for each step of a time {from, to, step} (seconds). Returns {series: [{labels, values}], truncated}. values
 * has one value for each step; null for a step without a value, which is drawn as a gap.
 */
export async function overRange(query, time, signal, limit = MOST_SERIES) {
  const { data, warnings } = await ask(
    "query_range",
    { query, start: time.from, end: time.to, step: time.step, limit },
    signal,
  );
  const series = data.result.map(({ metric, values }) => {
    const all = new Array(time.count).fill(null);
    for (const [at, text] of values) {
      const place = Math.round((at - time.from) / time.step);
      if (place >= 0 && place < time.count) all[place] = drawn(text);
    }
    return { labels: metric, values: all };
  });
  return { series, truncated: Boolean(warnings?.length) };
}

export const metricNames = async (signal) => (await ask("label/__name__/values", { limit: 20_000 }, signal)).data;
export const labelNames = async (match, signal) =>
  (await ask("labels", { "match[]": match, limit: 1000 }, signal)).data;
export const labelValues = async (name, match, signal) =>
  (await ask(`label/${name}/values`, { "match[]": match, limit: 1000 }, signal)).data;
export const metadata = async (signal) => (await ask("metadata", {}, signal)).data;

/**
 * Return the facts of the store: interval (seconds between two scrapes), oldest (milliseconds or null), started, pod,
 * proxied.
 */
export async function facts(signal) {
  try {
    const answer = await fetch("facts.json", { signal, cache: "no-store" });
    const found = await answer.json();
    return {
      interval: found.interval > 0 ? found.interval : 15,
      oldest: found.oldest ?? null,
      started: Number(found.started) || 0,
      pod: String(found.pod ?? ""),
      proxied: found.proxied === true,
    };
  } catch (error) {
    if (signal?.aborted) throw error;
    return { interval: 15, oldest: null, started: 0, pod: "", proxied: false };
  }
}
