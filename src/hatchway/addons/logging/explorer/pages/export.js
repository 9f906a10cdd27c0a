// Export: the lines that match, as a file, at most as many as one search can return. The menu shows the number.

import { byId, say } from "./dom.js";
import { search } from "./elastic.js";
import { FIELDS, valueOf } from "./fields.js";
import { count, lines } from "./text.js";

const MOST = 10_000, PIECE = 2500;
// A spreadsheet program reads a text with such a beginning as a formula.
const FORMULA = /^[=+\-@\t\r]/;

const quoted = (text) => `"${(FORMULA.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;

/** {extension: [type, first line, (source) => text]} */
export const FORMATS = {
  ndjson: ["application/x-ndjson", "", (source) => JSON.stringify(source)],
  txt: ["text/plain", "", (source) => `${source["@timestamp"]} ${["namespace", "pod", "container"].map((name) => valueOf(source, name)).join("/")} ${source.log ?? source.message ?? ""}`],
  csv: ["text/csv", ["time", ...Object.keys(FIELDS), "line"].join(","), (source) => [source["@timestamp"] || "", ...Object.keys(FIELDS).map((name) => valueOf(source, name)), String(source.log ?? source.message ?? "")].map(quoted).join(",")],
};

/** current: returns {query, total} of the lines that are shown. */
export function setUpExport(current) {
  const menu = byId("export-menu");
  menu.addEventListener("beforetoggle", (event) => {
    if (event.newState !== "open") return;
    const { total } = current();
    byId("export-note").textContent = total > MOST
      ? `The newest ${count(MOST)} of ${lines(total)}: an export has at most ${count(MOST)}. Choose a shorter time range for the others.`
      : `All ${lines(total)}, the newest first.`;
    for (const one of menu.querySelectorAll("[data-format]")) one.disabled = !total;
  });
  for (const one of menu.querySelectorAll("[data-format]")) one.addEventListener("click", () => save(one.dataset.format, current()));
}

async function save(extension, { query }) {
  const [type, first, spell] = FORMATS[extension];
  const note = byId("export-note");
  const pieces = first ? [`${first}\n`] : [];
  let got = 0;
  try {
    for (;;) {
      const { hits } = await search({ query, from: got, size: PIECE, sort: [{ "@timestamp": "desc" }, { _doc: "desc" }], track_total_hits: false });
      for (const hit of hits.hits) pieces.push(`${spell(hit._source)}\n`);
      got += hits.hits.length;
      note.textContent = `${lines(got)} so far`;
      if (hits.hits.length < PIECE || got >= MOST) break;
    }
  } catch (error) {
    note.textContent = `The export has failed: ${error.message}`;
    return;
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(pieces, { type: `${type};charset=utf-8` }));
  link.download = `logs-${new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-")}.${extension}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  byId("export-menu").hidePopover();
  say(`${lines(got)} exported`);
}
