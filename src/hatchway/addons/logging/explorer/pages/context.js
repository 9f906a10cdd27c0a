// Shows the lines around one line: all lines of the same container, whether they match the search or not.

import { byId, h } from "./dom.js";
import { search } from "./elastic.js";
import { FIELDS, valueOf } from "./fields.js";
import { lineRow, newestFirst } from "./lines.js";

const STEP = 40;
let around = null; // {hit, before, after, container}

export async function showContext(hit) {
  const source = hit._source;
  const container = [["kubernetes.pod_id.keyword", source.kubernetes?.pod_id], [FIELDS.pod.exact, valueOf(source, "pod")], [FIELDS.namespace.exact, valueOf(source, "namespace")], [FIELDS.container.exact, valueOf(source, "container")]]
    .filter(([, value]) => value).map(([field, value]) => ({ term: { [field]: value } }));
  around = { hit, container, before: STEP, after: STEP };
  byId("around-what").textContent = [valueOf(source, "namespace"), valueOf(source, "pod"), valueOf(source, "container")].filter(Boolean).join(" / ");
  byId("around-list").replaceChildren(h("li.wait", {}, "Searching"));
  byId("around-problem").textContent = "";
  byId("around").showModal();
  await fill(true);
}

async function fill(scroll) {
  const { hit, container } = around, wanted = around;
  const time = hit._source["@timestamp"];
  const part = (bounds, order, size) => search({ query: { bool: { filter: [...container, { range: { "@timestamp": bounds } }] } }, size, sort: [{ "@timestamp": order }, { _doc: order }], track_total_hits: false });
  try {
    const [before, after] = await Promise.all([part({ lte: time }, "desc", around.before + 1), part({ gte: time }, "asc", around.after + 1)]);
    if (around !== wanted) return;
    const found = new Map();
    for (const one of [...before.hits.hits, ...after.hits.hits, hit]) found.set(`${one._index}/${one._id}`, one);
    const id = `${hit._index}/${hit._id}`;
    const list = byId("around-list"), rows = [...found.values()].sort(newestFirst).reverse().map((one) => {
      const row = lineRow(one, [], null);
      row.removeAttribute("aria-expanded");
      if (`${one._index}/${one._id}` === id) { row.classList.add("itself"); row.setAttribute("aria-current", "true"); }
      return row;
    });
    const kept = list.querySelector(".itself")?.getBoundingClientRect().top;
    list.replaceChildren(...rows);
    const itself = list.querySelector(".itself");
    if (scroll) { itself.scrollIntoView({ block: "center" }); itself.focus({ preventScroll: true }); }
    else if (kept !== undefined) byId("around-scroll").scrollTop += itself.getBoundingClientRect().top - kept;
    byId("around-before").disabled = before.hits.hits.length <= around.before;
    byId("around-after").disabled = after.hits.hits.length <= around.after;
  } catch (error) {
    byId("around-problem").textContent = error.message;
  }
}

export function setUpContext() {
  const widen = (name) => { around = { ...around, [name]: Math.min(around[name] + 2 * STEP, 2000) }; fill(false); };
  byId("around-before").addEventListener("click", () => widen("before"));
  byId("around-after").addEventListener("click", () => widen("after"));
  byId("around").addEventListener("close", () => { around = null; });
  byId("around").addEventListener("keydown", (event) => {
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const rows = [...byId("around-list").children], at = rows.indexOf(document.activeElement);
    const next = rows[Math.min(Math.max(at + step, 0), rows.length - 1)];
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "nearest" });
    event.preventDefault();
  });
}
