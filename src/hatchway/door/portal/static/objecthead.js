// The head of an object's page (its state and the reasons for it), brought up to date from the page itself.
"use strict";

/** Fetch this page again and take over the elements of these ids. Returns the answer's status; 0 when the door is away. */
async function takeOver(ids) {
  try {
    const answer = await fetch(location.pathname, { headers: { accept: "text/html" }, cache: "no-store" });
    if (answer.ok) {
      const made = new DOMParser().parseFromString(await answer.text(), "text/html");
      // Morphing takes the children of what it is given.
      for (const id of ids) morph(document.getElementById(id), document.adoptNode(made.getElementById(id)));
    }
    return answer.status;
  } catch {
    return 0;
  }
}

/** Show that the object does not exist any more: what was said of it is the past, and nothing can be opened. */
function showDeleted() {
  const state = document.getElementById("state");
  state.className = "state empty";
  state.replaceChildren(h("span.dot.empty", { "aria-hidden": "true" }), "Deleted");
  document.getElementById("reasons").replaceChildren();
  document.getElementById("open")?.remove();
}
