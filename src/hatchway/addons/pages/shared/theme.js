// Before the first paint: the colours that were chosen the last time.
try {
  const chosen = localStorage.getItem("hatchway-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; the system's colours are right then.
}
