// The small menus: columns, colours, the fields on a narrow screen, the list of keys.

import { setUpContext } from "./context.js";
import { byId, h, place } from "./dom.js";
import { FIELDS } from "./fields.js";
import { state, toggleColumn } from "./state.js";
import { setUpTheme } from "./themebutton.js";

export function setUpMenus() {
  for (const [menu, button] of [["columns", "columns-button"], ["export-menu", "export"]]) {
    byId(menu).addEventListener("toggle", (event) => { if (event.newState === "open") place(byId(menu), byId(button)); });
  }
  byId("columns").addEventListener("beforetoggle", (event) => { if (event.newState === "open") fillColumns(); });
  setUpTheme();
  byId("fields").addEventListener("click", () => {
    const open = byId("page").classList.toggle("with-fields");
    byId("fields").setAttribute("aria-expanded", String(open));
  });
  byId("help").addEventListener("click", () => byId("keys").showModal());
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }
  setUpContext();
}

function fillColumns() {
  const names = [...Object.keys(FIELDS).filter((name) => name !== "level"), ...state.columns.filter((name) => name.startsWith("json:"))];
  byId("columns").replaceChildren(h("p", {}, "Columns"), ...names.map((name) => {
    const box = h("input", { type: "checkbox", checked: state.columns.includes(name), onchange: () => toggleColumn(name) });
    return h("label", {}, box, name.startsWith("json:") ? name.slice(5) : FIELDS[name].label);
  }), h("p.quiet", {}, "Fields of JSON lines become columns from an opened line."));
}
