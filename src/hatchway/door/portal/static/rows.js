// What an item looks like: from the JSON of portal/model.py to elements.
"use strict";

const ONE = { services: "service", pods: "pod", nodes: "node" };

/** What `c` copies: the link, else the forward line, else the proxy path. */
function linkOf(item) {
  return item.url || forwardOf(item) || item.ports.find((port) => port.path)?.path || "";
}

function forwardOf(item) {
  return item.ports.find((port) => port.forward)?.forward || "";
}

function shortUrl(url) {
  return url.replace(/^https?:\/\//, "").replace(/\/$/, "");
}

/** All that a search looks at. */
function haystack(item) {
  const ports = item.ports.map((port) => `${port.name || ""} ${port.number} ${port.protocol || ""} ${port.scheme}`);
  return [item.namespace, item.name, item.title, item.about, item.url, item.summary, ...ports].join(" ").toLowerCase();
}

function row(item, open) {
  const id = "more/" + item.key;
  const toggle = { type: "button", "data-toggle": true, "aria-expanded": String(open), "aria-controls": id };
  const main = item.url
    ? h("a.name.main", { href: item.url, target: "_blank", rel: "noopener noreferrer", "data-k": "link" }, item.name)
    : h("button.name.main", { ...toggle, "data-k": "plain" }, item.name);
  const line = h("div.line", {},
    h("button.icon.expand", { ...toggle, tabindex: -1, "aria-label": "Details of " + item.name }, icon("chevron")),
    h("span.who", {}, main, item.title && h("span.title", { "data-k": "title" }, item.title)),
    h("span.where", {}, ...where(item)),
    h("span.ports", {}, ...chips(item)),
    state(item, id),
    h("span.do", {}, ...actions(item)));
  return h("li.row." + (item.state || "empty"), { "data-key": item.key }, line, h("div.more", { id, hidden: !open }, ...(open ? details(item) : [])));
}

/** A row that is out of sight: its name, for the browser's own search and for order; the rest comes when it is near. */
function shell(item) {
  return h("li.row." + (item.state || "empty"), { "data-key": item.key },
    h("div.line", {}, h("span", {}), h("span.who", {}, h("span.name", {}, item.name))));
}

const mark = (barred) => (barred ? "out of reach" : "needs forward");

function where(item) {
  if (item.url) {
    const { needs, barred } = item.ports.find((port) => port.url === item.url);
    return [
      // The name is the same link, for the keyboard.
      h("a.mono", { "data-k": "url", href: item.url, target: "_blank", rel: "noopener noreferrer", tabindex: -1 }, shortUrl(item.url)),
      needs && h("em.mark", { "data-k": "needs", "data-tip": needs }, mark(barred)),
    ].filter(Boolean);
  }
  const forward = forwardOf(item);
  if (forward) return [h("span.mono.forward", { "data-k": "forward" }, forward)];
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
    if (port.forward) {
      const what = `Copy the forward line of port ${port.name || ""} ${port.number}`;
      return h("button.chip.tcp", { type: "button", "data-copy": port.forward, "data-k": key, "aria-label": what, "data-tip": "Needs forward. Copies: " + port.forward }, ...label);
    }
    return h("span.chip.off", { "data-k": key, "data-tip": port.note || "" }, ...label, port.protocol && port.protocol !== "TCP" && h("i", {}, port.protocol));
  });
  if (item.ports.length > 4) {
    shown.push(h("button.chip.rest", { type: "button", "data-toggle": true, "data-k": "rest", "aria-label": `All ${item.ports.length} ports of ${item.name}` }, `+${item.ports.length - 3}`));
  }
  return shown;
}

function state(item, id) {
  const reasons = item.reasons || [];
  const tip = reasons.slice(0, 5).map((reason) => (reason.name ? reason.name + ": " : "") + reason.text).join("\n") + (reasons.length > 5 ? `\nand ${reasons.length - 5} more` : "");
  const word = { ready: "ready", partly: "partly ready", down: "not ready", empty: "" }[item.state];
  const label = `${item.summary || "Unknown"}${word && !/ready/i.test(item.summary || "") ? ", " + word : ""}`;
  return h("button.state", { type: "button", "data-toggle": true, tabindex: reasons.length ? null : -1, "data-tip": tip || null, "aria-label": `${label}. ${reasons.length ? "Why: " + tip : "Details"}`, "aria-controls": id },
    h("span.dot." + (item.state || "empty")), h("span", {}, item.summary || "Unknown"));
}

function actions(item) {
  const link = linkOf(item);
  const out = [];
  if (link) out.push(h("button.icon.copy", { type: "button", "data-k": "copy", "data-copy": link, "aria-label": (item.url ? "Copy the link of " : item.ports.some((p) => p.forward) ? "Copy the forward line of " : "Copy the path of ") + item.name, "data-tip": item.url ? "Copy link" : "Copy forward line" }, icon("copy")));
  if (item.url) out.push(h("a.icon", { href: item.url, target: "_blank", rel: "noopener noreferrer", tabindex: -1, "data-k": "open", "aria-label": "Open " + item.name, "data-tip": "Open" }, icon("open")));
  return out;
}

// The details

function details(item) {
  const reasons = item.reasons || [];
  return [
    item.about && h("p.about", { "data-k": "about" }, item.about),
    reasons.length && h("div.why." + item.state, { "data-k": "why" },
      h("h3", {}, item.state === "ready" || item.summary === "Not known" ? "Worth knowing" : item.state === "empty" ? "Why nothing answers" : "Why not ready"),
      h("ul", {}, ...reasons.map((reason) => h("li", { "data-k": reason.name + reason.text }, reason.name && h("code", {}, reason.name), h("span", {}, reason.text))))),
    h("div.portlist", { "data-k": "ports" }, ...item.ports.map((port) => portDetails(item, port)),
      !item.ports.length && h("p.quiet", { "data-k": "no" }, `This ${ONE[item.kind]} declares no ports.` + (item.kind === "pods" ? ` Any that it listens on can be reached: put its number first, as in 8080.${item.name}.` : ""))),
    h("div.columns", { "data-k": "columns" }, endpoints(item), facts(item)),
  ].filter(Boolean);
}

function portDetails(item, port) {
  const what = port.name ? `${port.name} ${port.number}` : String(port.number);
  const kind = [port.protocol === "TCP" || !port.protocol ? "" : port.protocol, port.scheme ? port.scheme.toUpperCase() : port.protocol === "TCP" ? "TCP" : ""].filter(Boolean).join(" ");
  const rows = [];
  if (port.url) rows.push(value("Link", h("a.mono", { href: port.url, target: "_blank", rel: "noopener noreferrer" }, port.url), port.url, `the link of port ${what}`));
  if (port.path) rows.push(value("Proxy path", h("code", {}, port.path), port.path, `the proxy path of port ${what}`));
  if (port.forward && (port.needs || !port.url)) rows.push(value("Forward", h("code", {}, port.forward), port.forward, `the forward line of port ${what}`));
  return h("section.port", { "data-k": what + port.protocol, "aria-label": "Port " + what },
    h("h3", {}, h("b", {}, String(port.number)), port.name && h("span", {}, port.name), kind && h("i", {}, kind),
      port.needs && h("em.mark", { "data-k": "needs" }, mark(port.barred))),
    h("dl", {}, ...rows),
    (port.needs || port.note) && h("p.quiet", { "data-k": "note" }, port.needs || port.note));
}

function value(label, shown, text, what) {
  return h("div", { "data-k": label }, h("dt", {}, label), h("dd", {}, shown, copyButton(text, what)));
}

function endpoints(item) {
  if (!item.endpoints) return null;
  const rest = item.more ? [h("li.quiet", { "data-k": "rest" }, `and ${item.more} more`)] : [];
  return h("section", { "data-k": "endpoints" }, h("h3", {}, "Endpoints"),
    h("ul.endpoints", {}, ...item.endpoints.map((found) => h("li", { "data-k": found.name + found.address },
      h("span.dot." + (found.ready ? "ready" : "down")), h("span.mono", {}, found.name || found.address),
      found.name && found.address && h("span.mono.quiet", {}, found.address),
      h("span.unseen", {}, found.ready ? "ready" : "not ready"))), ...rest));
}

function facts(item) {
  const rows = [...(item.facts || [])];
  if (item.created) rows.push(["Created", item.created.replace("T", " ").replace("Z", " UTC")]);
  return h("section", { "data-k": "facts" }, h("h3", {}, "About"),
    h("dl.facts", {}, ...rows.map(([label, text], i) => h("div", { "data-k": label + i }, h("dt", {}, label), h("dd", {}, text)))));
}
