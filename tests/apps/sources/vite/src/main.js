import message from "./message.js";
import picture from "./picture.svg";

document.querySelector("h1").textContent = message;
document.body.append(Object.assign(new Image(), { src: picture }));
import("./later.js").then(later => (document.querySelector("p").textContent = later.default));

if (import.meta.hot) {
  import.meta.hot.accept("./message.js", changed => (document.querySelector("h1").textContent = changed.default));
}
