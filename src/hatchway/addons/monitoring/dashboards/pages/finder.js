// Finds a dashboard by the name of a node, namespace, pod or service that the user types.

import { byId, h } from "./dom.js";
import { shown } from "./plain.js";
import { instant } from "./clusterquery.js";
import { address } from "./state.js";
import { counted } from "./units.js";
import { BAR } from "./views.js";

const MOST = 40,
  FETCHED = 3000;
const KINDS = [
  ["node", "sum by (node) (kube_node_info)", ({ node }) => [node, ["nodes", node]]],
  [
    "namespace",
    "sum by (namespace) (kube_namespace_created)",
    ({ namespace }) => [namespace, ["namespaces", namespace]],
  ],
  [
    "service",
    "sum by (namespace, service) (kube_service_info)",
    ({ namespace, service }) => [`${namespace}/${service}`, ["services", namespace, service]],
  ],
  [
    "pod",
    "sum by (namespace, pod) (kube_pod_info)",
    ({ namespace, pod }) => [`${namespace}/${pod}`, ["pods", namespace, pod]],
  ],
];

let all = [],
  at = 0,
  matching = [];

async function load() {
  const pages = BAR.map(([path, title]) => ({ kind: "dashboard", text: title, path: path ? [path] : [] }));
  const answers = await Promise.all(
    KINDS.map(([, query]) => instant(query, Date.now(), undefined, FETCHED).catch(() => ({ rows: [] }))),
  );
  all = [
    ...pages,
    ...KINDS.flatMap(([kind, , of], place) =>
      answers[place].rows.map(({ labels }) => {
        const [text, path] = of(labels);
        return { kind, text, path };
      }),
    ),
  ];
  draw();
}

/** Return how well a text matches the typed words; a negative number when it does not match. */
function fit(text, words) {
  const low = text.toLowerCase();
  let points = 0;
  for (const word of words) {
    const place = low.indexOf(word);
    if (place < 0) return -1;
    points += place === 0 || /[/\-. ]/.test(low[place - 1]) ? 2 : 1;
  }
  return points * 100 - low.length / 10;
}

function draw() {
  const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const ranked = all
    .map((one) => ({ one, points: words.length ? fit(`${one.text} ${one.kind}`, words) : one.kind === "pod" ? 0 : 1 }))
    .filter(({ points }) => points >= 0);
  ranked.sort((a, b) => b.points - a.points);
  matching = ranked.slice(0, MOST).map(({ one }) => one);
  at = 0;
  byId("found").replaceChildren(
    ...matching.map((one, place) =>
      h(
        "li",
        { role: "option", id: `found-${place}`, "aria-selected": String(place === 0), onclick: () => open(place) },
        h("span", {}, shown(one.text)),
        h("span.quiet", {}, one.kind),
      ),
    ),
  );
  byId("found-note").textContent = !ranked.length
    ? "Nothing has this name."
    : ranked.length > MOST
      ? `The first ${MOST} of ${counted(ranked.length, "name")}.`
      : "";
  mark();
}

function mark() {
  [...byId("found").children].forEach((one, place) => one.setAttribute("aria-selected", String(place === at)));
  byId("found").children[at]?.scrollIntoView({ block: "nearest" });
  if (matching.length) byId("find").setAttribute("aria-activedescendant", `found-${at}`);
  else byId("find").removeAttribute("aria-activedescendant");
}

function open(place) {
  if (!matching[place]) return;
  byId("finder").close();
  window.location.hash = address(matching[place].path);
}

export function find() {
  byId("find").value = "";
  byId("finder").showModal();
  byId("find").focus();
  draw();
  load();
}

export function setUpFinder() {
  byId("jump").addEventListener("click", find);
  byId("find").addEventListener("input", draw);
  byId("find").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && matching.length) {
      at = (at + step + matching.length) % matching.length;
      mark();
    } else if (event.key === "Enter") open(at);
    else return;
    event.preventDefault();
  });
}
