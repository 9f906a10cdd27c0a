// Keeps the page of an object's events up to date while it is visible.
"use strict";

const EVERY = 4000;
let busy = false;

async function bringUpToDate() {
  if (busy || document.hidden) return;
  busy = true;
  if ((await takeOver(["main", "state", "reasons"])) === 404) location.reload();
  busy = false;
}

setInterval(bringUpToDate, EVERY);
document.addEventListener("visibilitychange", bringUpToDate);
