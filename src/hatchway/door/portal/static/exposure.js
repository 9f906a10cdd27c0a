// The page "Exposure": shows only the findings and ways in that contain all words of the search field.
"use strict";

const field = document.getElementById("filter");
document.getElementById("filtering").hidden = false;
const rows = [...document.querySelectorAll("[data-row]")].map((row) => [row, row.textContent.toLowerCase()]);

function apply() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const [row, text] of rows) {
    row.hidden = !words.every((word) => text.includes(word));
    if (!row.hidden) shown += 1;
  }
  document.getElementById("said").textContent = words.length ? `${shown} shown` : "";
}

field.addEventListener("input", apply);
// A browser may keep the text of the field when the page is loaded again.
apply();
