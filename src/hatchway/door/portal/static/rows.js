// Makes the elements of a row from an item, which is JSON of portal/model.py.
"use strict";

const ONE = { services: "service", pods: "pod", nodes: "node" };

/** Return the state to show. Until the cluster has sent all objects to the door, missing pods may only be unknown. */
const stateOf = (item) => (item.state === "lacking" && !complete ? "empty" : item.state || "empty");
const STATE_WORDS = { ready: "ready", partly: "partly ready", down: "not ready", lacking: "needs attention", empty: "" };

/** Return the text that the key `c` copies: the link, else the port-forward command, else the proxy path. */
function linkOf(item) {
  return item.url || forwardOf(item) || item.ports.find((port) => port.path)?.path || "";
}

function forwardOf(item) {
  return item.ports.map((port) => port.forward).find(Boolean) || "";
}

/** Return the path of one of a target's pages ("logs", "events", "yaml"). */
function pageOf(kind, namespace, name, page) {
  return ["/-/hatchway", kind, namespace, name, page].filter(Boolean).join("/");
}

/** Return text in which a line may break after each dot. (After hyphens it may break anyway.) */
function breakable(text) {
  return text.split(/(?<=\.)/).flatMap((part, i) => (i ? [h("wbr", {}), part] : [part]));
}

function shortUrl(url) {
  return url.replace(/^https?:\/\//, "").replace(/\/$/, "");
}

/** Return the text in which a search looks for words. */
function haystack(item) {
  const ports = item.ports.map((port) => `${port.name || ""} ${port.number} ${port.protocol || ""} ${port.scheme}`);
  return [item.namespace, item.name, item.title, item.about, item.url, item.summary, ...ports].join(" ").toLowerCase();
}

function row(item, open) {
  const id = "more/" + item.key;
  const toggle = { type: "button", "data-toggle": true, "aria-expanded": String(open), "aria-controls": id };
  const main = item.url
    ? h("a.name.main", { href: item.url, target: "_blank", rel: "noopener noreferrer", "data-k": "link" }, ...breakable(item.name))
    : h("button.name.main", { ...toggle, "data-k": "plain" }, ...breakable(item.name));
  const line = h("div.line", {},
    h("button.icon.expand", { ...toggle, tabindex: -1, "aria-label": "Details of " + item.name }, icon("chevron")),
    h("span.who", {}, main, item.title && h("span.title", { "data-k": "title" }, item.title)),
    h("span.where", {}, ...where(item)),
    h("span.ports", {}, ...chips(item)),
    state(item, id),
    h("span.do", {}, ...actions(item)));
  return h("li.row." + stateOf(item), { "data-key": item.key }, line, h("div.more", { id, hidden: !open }, ...(open ? details(item) : [])));
}

/** Return a row with the name only, for the browser's own search. `fill` adds the rest when the row is nearly visible. */
function shell(item) {
  return h("li.row." + stateOf(item), { "data-key": item.key },
    h("div.line", {}, h("span", {}), h("span.who", {}, h("span.name", {}, item.name))));
}

const mark = (barred) => (barred ? "out of reach" : "needs port-forward");

function where(item) {
  if (item.url) {
    const { needs, barred } = item.ports.find((port) => port.url === item.url);
    return [
      // Not reachable by the keyboard, because the name is the same link.
      h("a.mono", { "data-k": "url", href: item.url, target: "_blank", rel: "noopener noreferrer", tabindex: -1 }, ...breakable(shortUrl(item.url))),
      needs && h("em.mark", { "data-k": "needs", "data-tip": needs }, mark(barred)),
    ].filter(Boolean);
  }
  const forward = forwardOf(item);
  if (forward) return [h("span.mono.forward", { "data-k": "forward" }, forward)];
  // For services, the API server's proxy reaches only declared ports.
  if (item.kind !== "services" && !item.ports.length) return [h("button.typeport", { type: "button", "data-openport": true, "data-k": "open" }, "Open a port …")];
  return [h("span.quiet", { "data-k": "none" }, item.ports.length ? "" : "No ports")];
}

function chips(item) {
  const shown = item.ports.slice(0, item.ports.length > 4 ? 3 : 4).map((port) => {
    const key = `${port.protocol || ""}${port.name || ""}${port.number}`;
    const label = [port.name && h("span", {}, port.name), h("b", {}, String(port.number))];
    if (port.url) {
      const what = `Open port ${port.name || ""} ${port.number} of ${item.name}`;
      return h("a.chip" + (port.needs ? ".needs" : ""), { href: port.url, target: "_blank", rel: "noopener noreferrer", "data-k": key, "aria-label": what, "data-tip": port.needs || shortUrl(port.url) }, ...label);
    }
    const { forward } = port;
    if (forward) {
      const what = `Copy the port-forward line of port ${port.name || ""} ${port.number}`;
      return h("button.chip.tcp", { type: "button", "data-copy": forward, "data-k": key, "aria-label": what, "data-tip": "Needs a port-forward. Copies: " + forward }, ...label);
    }
    return h("span.chip.off", { "data-k": key, "data-tip": port.note || port.needs || "" }, ...label, port.protocol && port.protocol !== "TCP" && h("i", {}, port.protocol));
  });
  if (item.ports.length > 4) {
    shown.push(h("button.chip.rest", { type: "button", "data-toggle": true, "data-k": "rest", "aria-label": `All ${item.ports.length} ports of ${item.name}` }, `+${item.ports.length - 3}`));
  }
  return shown;
}

function state(item, id) {
  const reasons = item.reasons || [];
  const tip = reasons.slice(0, 5).map((reason) => (reason.name ? reason.name + ": " : "") + reason.text).join("\n") + (reasons.length > 5 ? `\nand ${reasons.length - 5} more` : "");
  const word = STATE_WORDS[stateOf(item)];
  const label = `${item.summary || "Unknown"}${word && !/ready/i.test(item.summary || "") ? ", " + word : ""}`;
  return h("button.state", { type: "button", "data-toggle": true, tabindex: reasons.length ? null : -1, "data-tip": tip || null, "aria-label": `${label}. ${reasons.length ? "Why: " + tip : "Details"}`, "aria-controls": id },
    h("span.dot." + stateOf(item), { "aria-hidden": "true" }), h("span", {}, item.summary || "Unknown"));
}

function actions(item) {
  const link = linkOf(item);
  const out = [];
  if (link) out.push(h("button.icon.copy", { type: "button", "data-k": "copy", "data-copy": link, "aria-label": (item.url ? "Copy the link of " : forwardOf(item) ? "Copy the port-forward line of " : "Copy the path of ") + item.name, "data-tip": item.url ? "Copy link" : forwardOf(item) ? "Copy port-forward line" : "Copy path" }, icon("copy")));
  if (item.kind === "pods") out.push(h("a.icon.logs", { href: pageOf("pods", item.namespace, item.name, "logs"), target: "_blank", tabindex: -1, "data-k": "logs", "aria-label": "Logs of " + item.name, "data-tip": "Logs" }, icon("logs")));
  if (item.url) out.push(h("a.icon", { href: item.url, target: "_blank", rel: "noopener noreferrer", tabindex: -1, "data-k": "open", "aria-label": "Open " + item.name, "data-tip": "Open" }, icon("open")));
  return out;
}

// The details

function details(item) {
  const reasons = item.reasons || [];
  return [
    item.about && h("p.about", { "data-k": "about" }, item.about),
    reasons.length && h("div.why." + stateOf(item), { "data-k": "why" },
      h("h3", {}, item.state === "ready" || ["Not known", "Starts on first use"].includes(item.summary) ? "Worth knowing" : ["empty", "lacking"].includes(stateOf(item)) ? "Why nothing answers" : "Why not ready"),
      h("ul", {}, ...reasons.map((reason) => h("li", { "data-k": reason.name + reason.text }, reason.name && h("code", {}, reason.name), h("span", {}, reason.text))))),
    h("div.portlist", { "data-k": "ports" }, ...item.ports.map((port) => portDetails(item, port)),
      !item.ports.length && h("p.quiet", { "data-k": "no" }, `This ${ONE[item.kind]} declares no ports.` + (item.kind === "pods" ? " Any that it listens on can be opened:" : "")),
      item.kind !== "services" && openPort(item)),
    h("nav.pages", { "data-k": "pages", "aria-label": "Pages of " + item.name },
      ...(item.kind === "pods" ? ["logs"] : []).concat("events", "yaml").map((page) => h("a.button", { href: pageOf(item.kind, item.namespace, item.name, page), target: "_blank", "data-k": page }, PAGE_WORDS[page]))),
    h("div.columns", { "data-k": "columns" }, endpoints(item), facts(item)),
  ].filter(Boolean);
}

const PAGE_WORDS = { logs: "Logs", events: "Events", yaml: "YAML" };

/** Return a form for opening any port, because a container may listen on a port that it does not declare. */
function openPort(item) {
  const id = "port/" + item.key;
  const hidden = { kind: item.kind, namespace: item.namespace, name: item.name };
  return h("form.openport", { action: "/-/hatchway/open", method: "get", target: "_blank", rel: "noopener noreferrer", "data-k": "openport" },
    ...Object.entries(hidden).map(([name, value]) => h("input", { type: "hidden", name, value })),
    h("label", { for: id }, item.ports.length ? "Another port" : "Port"),
    h("input.field", { id, name: "port", inputmode: "numeric", pattern: "[0-9]{1,5}", title: "A number from 1 to 65535", placeholder: "8080", required: true, autocomplete: "off", size: 7 }),
    h("select.field", { name: "scheme", "aria-label": "What it speaks" }, h("option", { value: "" }, "HTTP or HTTPS"), h("option", { value: "http" }, "HTTP"), h("option", { value: "https" }, "HTTPS")),
    h("button.button", { type: "submit" }, "Open"));
}

function portDetails(item, port) {
  const what = port.name ? `${port.name} ${port.number}` : String(port.number);
  const kind = [port.protocol === "TCP" || !port.protocol ? "" : port.protocol, port.scheme ? port.scheme.toUpperCase() : port.protocol === "TCP" ? "TCP" : ""].filter(Boolean).join(" ");
  const rows = [];
  if (port.url) rows.push(value("Link", h("a.mono", { href: port.url, target: "_blank", rel: "noopener noreferrer" }, port.url), port.url, `the link of port ${what}`));
  if (port.url && byProxy(port.url)) rows.push(value("wget, Python", h("code", {}, byProxy(port.url)), byProxy(port.url), `the line for wget of port ${what}`, "Programs that do not resolve names below localhost take the door for a proxy: wget, Python, Java and most others"));
  if (port.path) rows.push(value("Proxy path", h("code", {}, port.path), port.path, `the proxy path of port ${what}`));
  const { forward } = port;
  if (forward && (port.needs || !port.url)) rows.push(value("Port-forward", h("code", {}, forward), forward, `the port-forward line of port ${what}`));
  return h("section.port", { "data-k": what + port.protocol, "aria-label": "Port " + what },
    h("h3", {}, h("b", {}, String(port.number)), port.name && h("span", {}, port.name), kind && h("i", {}, kind),
      port.needs && h("em.mark", { "data-k": "needs" }, mark(port.barred))),
    h("dl", {}, ...rows),
    (port.needs || port.note) && h("p.quiet", { "data-k": "note" }, port.needs || port.note));
}

/** Return a command that works where names below localhost cannot be resolved; "" for names of another domain. */
function byProxy(url) {
  const { hostname } = new URL(url);
  if (!hostname.endsWith(".localhost")) return "";
  return `no_proxy= NO_PROXY= http_proxy=http://127.0.0.1:${new URL(url).port || 80} wget -qO- ${url}`;
}

function value(label, shown, text, what, tip) {
  return h("div", { "data-k": label }, h("dt", { "data-tip": tip }, label), h("dd", {}, shown, copyButton(text, what)));
}

function endpoints(item) {
  if (!item.endpoints) return null;
  const rest = item.more ? [h("li.quiet", { "data-k": "rest" }, `and ${item.more} more`)] : [];
  return h("section", { "data-k": "endpoints" }, h("h3", {}, "Endpoints"),
    h("ul.endpoints", {}, ...item.endpoints.map((found) => h("li", { "data-k": found.name + found.address },
      h("span.dot." + (found.ready ? "ready" : "down"), { "aria-hidden": "true" }), h("span.mono", {}, found.name || found.address),
      found.name && found.address && h("span.mono.quiet", {}, found.address),
      h("span.quiet", {}, found.ready ? "ready" : "not ready"),
      items.pods.has(`pods/${item.namespace}/${found.name}`) && h("a", { href: pageOf("pods", item.namespace, found.name, "logs"), target: "_blank", "aria-label": "Logs of " + found.name }, "logs"))), ...rest));
}

function facts(item) {
  const rows = [...(item.facts || [])];
  if (item.created) rows.push(["Created", item.created.replace("T", " ").replace("Z", " UTC")]);
  return h("section", { "data-k": "facts" }, h("h3", {}, "About"),
    h("dl.facts", {}, ...rows.map(([label, text], i) => h("div", { "data-k": label + i }, h("dt", {}, label), h("dd", {}, text)))));
}
