import("./later").then((later) => {
  document.getElementById("message").textContent = later.default;
});
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
worker.onmessage = (event) => {
  document.getElementById("worker").textContent = event.data;
};
worker.postMessage(20);
