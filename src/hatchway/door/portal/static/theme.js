// Sets the stored choice of colours before the page is first displayed.
"use strict";
try {
  const chosen = localStorage.getItem("hatchway-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; then the page has the system's colours.
}
