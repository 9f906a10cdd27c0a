// Workers. This script must run before a worker's script. For a `blob:` URL it is added here, otherwise by the server.

var blobs = new Map();
var NativeBlob = global.Blob;
if (NativeURL && NativeURL.createObjectURL) {
  var create = NativeURL.createObjectURL, revoke = NativeURL.revokeObjectURL;
  define(NativeURL, "createObjectURL", function (object) {
    var url = create.call(NativeURL, object);
    if (object instanceof NativeBlob && /script|^$/.test(object.type)) blobs.set(url, object);
    return url;
  });
  define(NativeURL, "revokeObjectURL", function (url) {
    blobs.delete(url);
    return revoke.call(NativeURL, url);
  });
}

// Return this script as it was served, byte for byte, because a policy may allow it by its hash.
function source() {
  return "(" + hatchway + ")(" + JSON.stringify(PREFIX) + ", " + JSON.stringify(HOSTS) + ");";
}

function worker(args) {
  var blob = blobs.get(String(args[0]));
  if (!blob) return first(args);
  var url = create.call(NativeURL, new NativeBlob([source() + "\n", blob], { type: "text/javascript" }));
  args[0] = isTrusted("ScriptURL", args[0]) ? trusted("ScriptURL", url) || args[0] : url;
}

constructor("Worker", worker);
constructor("SharedWorker", function (args) {
  // Shared workers are shared by their address, so a `blob:` URL must not change.
  if (!blobs.has(String(args[0]))) first(args);
});
if (global.Worklet) method(global.Worklet.prototype, "addModule", first);
if (global.ServiceWorkerContainer) {
  method(global.ServiceWorkerContainer.prototype, "register", function (args) {
    first(args);
    if (args[1] && args[1].scope !== undefined) {
      args[1] = Object.assign({}, args[1], { scope: add(String(args[1].scope)) });
    }
  });
  method(global.ServiceWorkerContainer.prototype, "getRegistration", first);
}
accessor("ServiceWorkerRegistration", "scope", del);
accessor("ServiceWorker", "scriptURL", del);
accessor("Client", "url", del);
if (global.Clients) method(global.Clients.prototype, "openWindow", first);
if (global.WindowClient) method(global.WindowClient.prototype, "navigate", first);

// A service worker may answer with a response that was requested for another purpose (by `fetch(event.request)`), or
// with one from a cache. The page or worker's script in it may not contain this script, so it is added here.
function given(response, type, change) {
  if (!response || !response.body || !type.test(response.headers.get("content-type"))) return response;
  return response.text().then(function (text) {
    var headers = new global.Headers(response.headers);
    headers.delete("content-length");
    headers.delete("content-encoding");
    text = text.indexOf("(function hatchway(PREFIX") < 0 ? change(text, headers) : text;
    return new global.Response(text, { status: response.status, statusText: response.statusText, headers: headers });
  });
}
function page(text, headers) {
  var nonce = /'nonce-([\w+\/=-]+)'/.exec(headers.get("content-security-policy"));
  var element = "<script" + (nonce ? " nonce=\"" + nonce[1] + "\"" : "") + ">" + source() + "<" + "/script>";
  var at = /^\s*(?:<!doctype[^>]*>)?(?:\s*<html[^>]*>)?(?:\s*<head(?:\s[^>]*)?>)?/i.exec(text)[0].length;
  return text.slice(0, at) + element + text.slice(at);
}
if (global.FetchEvent) {
  method(global.FetchEvent.prototype, "respondWith", function (args, event) {
    var kind = event.request.destination, change = null;
    if (/^(?:document|i?frame|embed|object)$/.test(kind)) {
      change = function (response) { return given(response, /^text\/html(?!.*charset=(?!"?utf-8))/i, page); };
    } else if (/^(?:shared)?worker$/.test(kind)) {
      change = function (response) {
        return given(response, /javascript|ecmascript/i, function (text) { return source() + "\n" + text; });
      };
    }
    if (change) args[0] = Promise.resolve(args[0]).then(change);
  });
}
