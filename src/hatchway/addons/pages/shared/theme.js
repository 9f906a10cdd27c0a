// Sets the colours that were chosen the last time, before the page is painted.
try {
  const chosen = localStorage.getItem("hatchway-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; then the system's colours are used.
}
