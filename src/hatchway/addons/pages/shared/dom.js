// Makes elements. Data is put only into text nodes and checked attributes, so hostile data cannot become markup.

/** Return an element: h("a.name", {href, onclick}, "text", child, ...). Attributes that are null, false or undefined are left out. */
export function h(what, attributes, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  set(element, attributes);
  append(element, children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Return an SVG element, as `h` does. */
export function s(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  set(element, attributes);
  append(element, children);
  return element;
}

function set(element, attributes) {
  for (const name in attributes) {
    const value = attributes[name];
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
}

function append(element, children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child);
  }
}

export function icon(name, size = 16) {
  return s("svg", { width: size, height: size, "aria-hidden": "true" }, s("use", { href: "#i-" + name }));
}

export const byId = (id) => document.getElementById(id);

/** Announce a text to screen readers, and show it for a moment. */
export function say(text) {
  const said = byId("said");
  said.textContent = text;
  said.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => said.classList.remove("shown"), 2600);
}

/** Copy a text to the clipboard, and announce this. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // The clipboard API needs a secure context and a permission. Without them, the older command is used.
    const area = h("textarea.unseen", { readonly: true });
    area.value = text;
    (document.querySelector("dialog[open]") || document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) return say("Copying is not allowed here");
  }
  say(`${what} copied`);
}

/** Open a popover below its button, inside the window. */
export function place(popover, button) {
  const at = button.getBoundingClientRect();
  popover.style.top = `${Math.round(at.bottom + 6)}px`;
  const left = Math.min(at.left, window.innerWidth - popover.offsetWidth - 8);
  popover.style.left = `${Math.round(Math.max(8, left))}px`;
  popover.style.maxHeight = `${Math.round(window.innerHeight - at.bottom - 18)}px`;
}
