// Adds the prefix to addresses (`add`), and removes it (`del`).

// `prefix.localhost` serves only applications. If a page contains this host name with another port, that is the port on
// which the application itself listens.
var DOOR = /^prefix\..*localhost$/.test(here.hostname);

function has(path) {
  return path.slice(0, PREFIX.length) === PREFIX && /^(?:[\/?#]|$)/.test(path.slice(PREFIX.length));
}

function under(path) {
  if (/\/(?:\.|%2e)/i.test(path)) {
    var url = new NativeURL(path, here.origin === "null" ? here.href : here.origin);
    path = url.pathname + url.search + url.hash;
  }
  return has(path) ? path : PREFIX + path;
}

function ours(host) {
  return host === here.host || HOSTS.indexOf(host) >= 0 || (DOOR && host.replace(/:\d+$/, "") === here.hostname);
}

function base() {
  return doc ? native.baseURI.call(doc) : String(place.href);
}

function addText(text) {
  var url = text.replace(/^[\x00-\x20]+/, "");
  if (/^[\/\\](?![\/\\])/.test(url)) return under("/" + url.slice(1));
  if (/^javascript:/i.test(url)) return url.slice(0, 11) + code(url.slice(11));
  var absolute = /^(https?|wss?):|^[\/\\]{2}/i.exec(url);
  if (!absolute) return url.indexOf("..") < 0 || /^[a-z][a-z0-9+.-]*:/i.test(url) ? text : climb(text);
  try {
    var parsed = new NativeURL(url, here.protocol + "//" + here.host);
    if (!ours(parsed.host)) return text;
    var path = parsed.pathname;
    if (has(path) && parsed.host === here.host) return text;
    var scheme = /^ws/i.test(url) ? (secure ? "wss:" : "ws:") : here.protocol;
    return scheme + "//" + here.host + under(path) + parsed.search + parsed.hash;
  } catch (e) {
    return text;
  }
}

// Return a relative address whose ".." does not leave the prefix, just as ".." does not leave the root of a host.
function climb(text) {
  try {
    var real = new NativeURL(base());
    if (!has(real.pathname) || has(new NativeURL(text, real).pathname)) return text;
    return addText(new NativeURL(text, del(real.href)).href);
  } catch (e) {
    return text;
  }
}

var policy;
function trusted(kind, text) {
  if (policy === undefined) {
    var same = function (value) { return value; };
    try {
      policy = global.trustedTypes.createPolicy("hatchway", { createHTML: same, createScript: same, createScriptURL: same });
    } catch (e) {
      policy = null;
    }
  }
  return policy && policy["create" + kind](text);
}

function isTrusted(kind, value) {
  return typeof global["Trusted" + kind] === "function" && value instanceof global["Trusted" + kind];
}

function add(value) {
  if (typeof value === "string") return addText(value);
  if (value === null || typeof value !== "object") return value;
  if (isTrusted("ScriptURL", value)) {
    var text = String(value), mapped = addText(text);
    return mapped === text ? value : trusted("ScriptURL", mapped) || value;
  }
  if (Object.prototype.toString.call(value) === "[object Request]") return value;
  return addText(String(value));
}

function del(value) {
  if (typeof value !== "string") return value;
  if (/^\s*javascript:/i.test(value)) return uncode(value);
  var match = /^((?:https?|wss?):\/\/([^\/?#]*))?(\/[^]*)$/i.exec(value);
  if (!match || (match[1] && match[2] !== here.host) || !has(match[3])) return value;
  var rest = match[3].slice(PREFIX.length);
  return (match[1] || "") + (rest.charAt(0) === "/" ? rest : "/" + rest);
}

function each(list, map) {
  return list.replace(/([\s,]*)([^\s]+)([^,(]*(?:\([^)]*\)[^,(]*)*)/g, function (all, space, url, rest) {
    var bare = url.replace(/,+$/, "");
    return space + map(bare) + url.slice(bare.length) + rest;
  });
}

// Apply `map` to a style's addresses. The addresses in `@import "..."` and `image-set("..." 1x)` have no `url(`.
function styled(text, map) {
  function one(all, begin, quote, url) { return begin + quote + map(url); }
  return text
    .replace(/((?:\burl|\bsrc)\(\s*)(&quot;|&apos;|&#0*3[49];|["']?)([^"')\s]+)/gi, one)
    .replace(/(@import\s+)(["'])([^"']+)/gi, one)
    .replace(/\bimage-set\([^;{}]*/gi, function (set) { return set.replace(/([(,]\s*)(["'])([^"']+)/g, one); });
}

function css(text) {
  return typeof text === "string" && /url\(|src\(|image-set\(|@import/i.test(text) ? styled(text, addText) : text;
}

function uncss(text) {
  return typeof text === "string" && text.indexOf(PREFIX) >= 0 ? styled(text, del) : text;
}
