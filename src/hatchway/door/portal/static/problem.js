// Buttons to copy text from an error page, and automatic reloading. The page can be read without this script.
"use strict";
for (const button of document.querySelectorAll("[data-for]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.for);
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      getSelection().selectAllChildren(source);
      if (!document.execCommand("copy")) return;
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1400);
  });
}

const note = document.getElementById("retry");
if (note) {
  const shown = note.querySelector("b");
  let wait = Number(note.dataset.seconds);
  let left = wait;
  let busy = false;

  // Reload the page when the answer is no longer the problem that this page describes. HEAD has no effect on the
  // application.
  const attempt = async () => {
    if (busy) return;
    busy = true;
    shown.textContent = "now";
    try {
      const answer = await fetch(location.href, { method: "HEAD", headers: { accept: "text/html" }, cache: "no-store", redirect: "manual" });
      if (answer.headers.get("x-hatchway-problem") !== note.dataset.problem) {
        location.reload();
        return;
      }
    } catch {
      // The door itself does not answer: try again later.
    }
    wait = Math.min(wait * 1.6, 30);
    left = Math.round(wait);
    busy = false;
    tick();
  };
  const tick = () => { shown.textContent = `in ${left} s`; };

  setInterval(() => {
    if (busy || document.hidden) return;
    left -= 1;
    if (left > 0) tick();
    else attempt();
  }, 1000);
  document.addEventListener("visibilitychange", () => document.hidden || attempt());
  addEventListener("online", attempt);
  tick();
}
