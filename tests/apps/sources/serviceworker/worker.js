const parts = ["", "main.js", "style.css"].map(part => new URL(part, self.registration.scope).href);

self.addEventListener("install", event => {
  event.waitUntil(caches.open("parts").then(cache => cache.addAll(parts)).then(() => self.skipWaiting()));
});
self.addEventListener("activate", event => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", event => {
  if (event.request.url.endsWith("/answer")) {
    event.respondWith(new Response("the worker says 42"));
  } else {
    event.respondWith(caches.match(event.request).then(found => found || fetch(event.request)));
  }
});
