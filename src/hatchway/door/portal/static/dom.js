// Makes elements from data. Data becomes text nodes and checked attributes only, so names from the cluster cannot add
// elements or scripts to the page.
"use strict";

/** Make an element: h("a.name", {href, "data-key": k}, "text", child, ...). Attributes that are null, false or undefined are left out. */
function h(what, attributes, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const name in attributes) {
    const value = attributes[name];
    if (value === null || value === undefined || value === false) continue;
    if (name === "href" && !/^(https?:\/\/|#|\/(?![/\\]))/.test(value)) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child);
  }
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

function icon(name, size = 16) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("width", size);
  svg.setAttribute("height", size);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", "#i-" + name);
  svg.append(use);
  return svg;
}

/** Make `old` equal to `made` with as few changes as possible, so that the focus and the selection are kept. */
function morph(old, made) {
  for (const { name } of [...old.attributes]) if (!made.hasAttribute(name) && name !== "hidden") old.removeAttribute(name);
  for (const { name, value } of made.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  let at = old.firstChild;
  for (const wanted of [...made.childNodes]) {
    const key = wanted.dataset?.k;
    if (key !== undefined) {
      let found = at;
      while (found && found.dataset?.k !== key) found = found.nextSibling;
      // Remove the elements before it instead of moving it, because a moved element loses the focus.
      if (found) while (at !== found) at = drop(at);
    }
    if (at && at.nodeName === wanted.nodeName && at.dataset?.k === key) {
      if (at.nodeType === Node.TEXT_NODE) {
        if (at.data !== wanted.data) at.data = wanted.data;
      } else {
        morph(at, wanted);
      }
      at = at.nextSibling;
    } else {
      old.insertBefore(wanted, at);
    }
  }
  while (at) at = drop(at);
}

function drop(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

/** Copy text. Resolves to true when that worked. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // The page is not a secure context (another --domain over plain HTTP), or the clipboard is not allowed: select the
    // text, and use the older command.
    const area = h("textarea", { readonly: true, class: "unseen" });
    area.value = text;
    (document.querySelector("dialog[open]") || document.body).append(area);
    const before = document.activeElement;
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    before?.focus({ preventScroll: true });
    return done;
  }
}

/** Announce a text to screen readers. */
function say(text) {
  const said = document.getElementById("said");
  said.textContent = "";
  said.textContent = text;
}

function copyButton(text, what) {
  return h("button.icon.copy", { type: "button", "data-copy": text, "aria-label": "Copy " + what, "data-tip": "Copy " + what }, icon("copy"));
}

function snippet(text, what) {
  return h("div.snippet", {}, h("pre", { tabindex: 0, "aria-label": what }, text),
    h("button.button.copy-text", { type: "button", "data-copy": text, "aria-label": "Copy " + what }, "Copy"));
}
