import { message } from "./message.js";

const shown = document.body.appendChild(document.createElement("h1"));
shown.textContent = message;
import.meta.webpackHot?.accept("./message.js", () => (shown.textContent = message));
