navigator.serviceWorker.register("/worker.js", { scope: "/" });
navigator.serviceWorker.ready.then(() => (document.title = "ready"));
