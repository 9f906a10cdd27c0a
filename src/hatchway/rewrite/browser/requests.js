// Addresses of requests that scripts make.

method(global, "fetch", function (args) {
  first(args);
  if (args[1] && args[1].integrity && typeof args[0] === "string" && !/^(?:[a-z]+:)?\/\//i.test(args[0])) {
    args[1] = Object.assign({}, args[1], { integrity: "" });
  }
});
constructor("Request", first);
accessor("Request", "url", del);
accessor("Response", "url", del);
var Xhr = global.XMLHttpRequest;
if (Xhr) {
  method(Xhr.prototype, "open", second);
  accessor("XMLHttpRequest", "responseURL", del);
}
["WebSocket", "EventSource", "WebTransport"].forEach(function (name) {
  constructor(name, first);
  accessor(name, "url", del);
});
if (global.Navigator) method(global.Navigator.prototype, "sendBeacon", first);
method(global, "importScripts", function (args) {
  for (var i = 0; i < args.length; i++) args[i] = add(args[i]);
});
if (global.Cache) {
  ["match", "matchAll", "add", "put", "delete", "keys"].forEach(function (name) {
    method(global.Cache.prototype, name, first);
  });
  method(global.Cache.prototype, "addAll", function (args) {
    args[0] = Array.prototype.map.call(args[0], add);
  });
  method(global.CacheStorage.prototype, "match", first);
}
constructor("FontFace", function (args) { args[1] = css(args[1]); });

// Objects that show the addresses of past requests: remove the prefix.

[
  "PerformanceEntry name", "LargestContentfulPaint url", "StorageEvent url", "ErrorEvent filename", "HashChangeEvent oldURL",
  "HashChangeEvent newURL", "SecurityPolicyViolationEvent documentURI", "SecurityPolicyViolationEvent referrer",
  "SecurityPolicyViolationEvent sourceFile", "SecurityPolicyViolationEvent blockedURI", "Request referrer", "MutationRecord oldValue",
].forEach(function (one) {
  var parts = one.split(" ");
  accessor(parts[0], parts[1], del);
});
if (global.PerformanceEntry) {
  ["PerformanceEntry", "PerformanceResourceTiming", "PerformanceNavigationTiming", "LargestContentfulPaint"].forEach(function (type) {
    result(global[type] && global[type].prototype, "toJSON", function (found) {
      ["name", "url"].forEach(function (key) { if (key in found) found[key] = del(found[key]); });
      return found;
    });
  });
  method(global.Performance.prototype, "getEntriesByName", function (args) {
    if (/^(?:[\/\\]|https?:)/.test(args[0])) args[0] = new NativeURL(addText(String(args[0])), here.origin).href;
  });
}
