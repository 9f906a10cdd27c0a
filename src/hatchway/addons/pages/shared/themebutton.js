// The button that changes the colours: the system's, light, dark. theme.js sets them when the page is loaded.

import { byId } from "./dom.js";

const THEMES = ["system", "light", "dark"];
const theme = () => document.documentElement.dataset.theme || "system";

/** changed: called after each change. */
export function setUpTheme(changed = () => {}) {
  byId("theme").addEventListener("click", () => {
    show(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
    changed();
  });
  show(theme());
}

function show(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try { localStorage.setItem("hatchway-theme", name); } catch { /* storage may be forbidden: the choice then ends with the page */ }
  byId("theme").setAttribute("aria-label", `Colours: ${name === "system" ? "as the system has them" : name}`);
  byId("theme").querySelector("use").setAttribute("href", `#i-${name}`);
}
