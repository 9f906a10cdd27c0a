// Data that all parts of a dashboard use while it is shown: the facts of the store, and links to the logs.

import { logsAddress } from "./logs.js";
import { facts } from "./prometheus.js";
import { timeOf } from "./promql.js";
import { range, state } from "./state.js";

let known = { interval: 15, oldest: null, started: 0, pod: "", proxied: false };

/** The context of one refresh: {time, facts, signal}. */
export async function contextOf(signal) {
  known = await facts(signal);
  return { time: timeOf(range(), known.interval), facts: known, signal };
}

/** Return the log explorer's address with these filters and this page's time range; null when it is not known. */
export const pageLogs = (values) => logsAddress(values, state, known.proxied);
