import message from "./message.js";

const show = () => (document.querySelector("h1").textContent = message);
show();
import("./later.js").then(later => (document.querySelector("p").textContent = later.default));
if (module.hot) module.hot.accept("./message.js", show);
