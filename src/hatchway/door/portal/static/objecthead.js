// Updates the head of an object's page (its state and the reasons) by loading the page again.
"use strict";

/** Load this page again, and update the elements with these ids. Returns the answer's status; 0 when the door is away. */
async function takeOver(ids) {
  try {
    const answer = await fetch(location.pathname, { headers: { accept: "text/html" }, cache: "no-store" });
    if (answer.ok) {
      const made = new DOMParser().parseFromString(await answer.text(), "text/html");
      // `morph` moves children out of its second argument, so this document must adopt it first.
      for (const id of ids) morph(document.getElementById(id), document.adoptNode(made.getElementById(id)));
    }
    return answer.status;
  } catch {
    return 0;
  }
}

/** Show that the object was deleted: remove the reasons of its state and the link that opens it. */
function showDeleted() {
  const state = document.getElementById("state");
  state.className = "state empty";
  state.replaceChildren(h("span.dot.empty", { "aria-hidden": "true" }), "Deleted");
  document.getElementById("reasons").replaceChildren();
  document.getElementById("open")?.remove();
}
