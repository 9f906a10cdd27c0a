// What makes an application's scripts work under a path prefix.
//
// The application believes that it lives at the root of its host. Everything that a script hands to the browser as an
// address gets the prefix (`add`), everything that it reads back is without it (`del`). Both are idempotent. What is
// not ours (another host, `data:`, `blob:`) is left alone.
//
// This file runs first in every document, and at the beginning of every worker's script. It is served with its
// comments and indentation taken off, the two arguments at its end filled in, and inline; so it has no block comments,
// no text that spans lines, and nowhere the characters that end a script element. `window.location` cannot be replaced:
// scripts are changed on their way (javascript.py) to read it through `__hatchway`, and to import through
// `__hatchwayImport`.
(function hatchway(PREFIX, HOSTS) {
  "use strict";

  function install(global, home) {
    if (global.__hatchway) return;

    var place = global.location;
    var doc = global.document;
    var NativeURL = global.URL;
    var here = home;
    if (!here) {
      var href = String(place.href).replace(/^blob:/, "");
      try { here = new NativeURL(href); } catch (e) { return; }
      if (!/^https?:$/.test(here.protocol)) return;
    }
    var secure = here.protocol === "https:";

    // Addresses.

    // At the door's own name for prefixes nobody but applications like this one is to be found, on whatever port. A page
    // that says another one means the port that the application itself listens on.
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

    // A relative address with "..": at a root it could not rise above it.
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

    function css(text) {
      if (typeof text !== "string" || !/url\(|@import/i.test(text)) return text;
      return text
        .replace(/(\burl\(\s*)(["']?)([^"')\s]+)/gi, function (all, begin, quote, url) {
          return begin + quote + addText(url);
        })
        .replace(/(@import\s+)(["'])([^"']+)/gi, function (all, begin, quote, url) {
          return begin + quote + addText(url);
        });
    }

    // The tools.

    var native = {};

    function define(object, name, value) {
      try {
        Object.defineProperty(object, name, { value: value, configurable: true, enumerable: false, writable: true });
      } catch (e) {}
    }

    // A method whose arguments pass through `map` (an array, changed in place).
    function method(object, name, map) {
      // A worker's own functions are its prototypes'.
      while (object && !Object.prototype.hasOwnProperty.call(object, name)) object = Object.getPrototypeOf(object);
      var found = object && Object.getOwnPropertyDescriptor(object, name);
      if (!found || typeof found.value !== "function" || !found.configurable) return;
      found.value = new Proxy(found.value, {
        apply: function (target, self, args) {
          map(args, self);
          return Reflect.apply(target, self, args);
        },
      });
      Object.defineProperty(object, name, found);
    }

    function first(args) { if (args.length) args[0] = add(args[0]); }
    function second(args) { if (args.length > 1) args[1] = add(args[1]); }

    function constructor(name, map) {
      var Native = global[name];
      if (typeof Native !== "function") return;
      var Ours = new Proxy(Native, {
        construct: function (target, args, newTarget) {
          map(args);
          return Reflect.construct(target, args, newTarget === Ours ? target : newTarget);
        },
      });
      define(global, name, Ours);
      if (Native.prototype) define(Native.prototype, "constructor", Ours);
    }

    // An accessor: `read` and `write` are functions of (value, object), or missing.
    function accessor(type, name, read, write) {
      var proto = typeof type === "string" ? global[type] && global[type].prototype : type;
      var found = proto && Object.getOwnPropertyDescriptor(proto, name);
      if (!found || !found.configurable || !found.get) return;
      var get = found.get, set = found.set;
      if (read) found.get = function () { return read(get.call(this), this); };
      if (set && write) found.set = function (value) { set.call(this, write(value, this)); };
      Object.defineProperty(proto, name, found);
    }

    function getter(type, name) {
      var found = global[type] && Object.getOwnPropertyDescriptor(global[type].prototype, name);
      return found && found.get;
    }

    // `location`, as the application is to see it.

    var wrappers = new WeakMap();

    function wrap(location) {
      var known = wrappers.get(location);
      if (known) return known;
      var wrapper = Object.create(Object.getPrototypeOf(location));
      ["protocol", "host", "hostname", "port", "search", "hash", "origin", "ancestorOrigins"].forEach(function (name) {
        Object.defineProperty(wrapper, name, {
          get: function () { return location[name]; },
          set: function (value) { location[name] = value; },
          enumerable: true,
        });
      });
      Object.defineProperty(wrapper, "href", {
        get: function () { return del(location.href); },
        set: function (value) { location.href = add(String(value)); },
        enumerable: true,
      });
      Object.defineProperty(wrapper, "pathname", {
        get: function () { return del(location.pathname); },
        set: function (value) { location.pathname = under(("/" + value).replace(/^\/+/, "/")); },
        enumerable: true,
      });
      wrapper.assign = function (url) { location.assign(add(String(url))); };
      wrapper.replace = function (url) { location.replace(add(String(url))); };
      wrapper.reload = function () { location.reload(); };
      wrapper.toString = function () { return del(location.href); };
      wrapper.valueOf = function () { return wrapper; };
      wrappers.set(location, wrapper);
      wrappers.set(wrapper, wrapper);
      return wrapper;
    }

    define(global, "__hatchway", function (value) {
      if (value === place) return wrap(place);
      if (value === null || typeof value !== "object" || value instanceof Object) return value;
      // A window's of the same origin, perhaps; one of another origin says nothing of itself.
      try {
        if (Object.prototype.toString.call(value) === "[object Location]") return wrap(value);
      } catch (e) {}
      return value;
    });
    // `f().location.href`: what was called, or looked up, may be a window.
    if (!("__hatchwayLocation" in Object.prototype)) {
      Object.defineProperty(Object.prototype, "__hatchwayLocation", {
        get: function () { return global.__hatchway(this.location); },
        configurable: true,
      });
    }
    define(global, "__hatchwayImport", function (load, url) {
      return load(add(url));
    });

    // Requests.

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

    // Scripts that come as text (`eval`, `new Function`, the text of an element): what javascript.py does, once more.

    var NAME = "[A-Za-z_$][\\w$]*";
    var CHAIN = NAME + "(?:\\s*\\??\\.\\s*" + NAME + ")*";
    var STOP = new RegExp(
      "\"[^\"\\\\\\n]*(?:\\\\[^][^\"\\\\\\n]*)*\"|'[^'\\\\\\n]*(?:\\\\[^][^'\\\\\\n]*)*'|[\"'`}]|\\/\\/.*|\\/\\*[^]*?\\*\\/|\\/" +
      "|\\{[^{}()\"'`\\/;]*\\b(?:pathname|href)\\b[^{}()\"'`\\/;]*\\}\\s*=(?![=>])\\s*" + CHAIN + "(?=\\s*(?:[;,)}]|\\n|$))|\\{" +
      "|(?<![\\w$#@\\\\])" + CHAIN, "g");
    var PIECE = /[^`\\$]*(?:(?:\\[^]|\$(?!\{))[^`\\$]*)*/y;
    var REGEX = /\/(?![*\/])(?:[^\/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y;
    var OPERATORS = /(?:^|[^\w$.])(?:return|typeof|case|in|of|delete|void|throw|new|instanceof|do|else|yield|await|extends|default)$/;
    var NO_VALUE = /(?:^|[^\w$.])(?:new|delete|function|class|get|set|typeof)$|[.#@\\]$|\+\+$|--$/;
    var ADDRESS = "globalThis.__hatchway(";

    function code(text) {
      if (!/location|pathname|href|\bimport\s*\(/.test(text)) return text;
      // Up to where it was put out and looked at, where the code around the latter begins, and what stands before that.
      var out = "", put = 0, at = 0, begun = 0, kept = "", braces = [];
      function before(end) {
        return text.slice(Math.max(begun, end - 200), end).replace(/\s+$/, "") || kept;
      }
      function passed(end, what) {
        at = begun = end;
        kept = what;
      }
      function replace(start, end, by) {
        out += text.slice(put, start) + by;
        put = end;
      }
      function inTemplate() {
        PIECE.lastIndex = at;
        PIECE.test(text);
        at = PIECE.lastIndex;
        if (text.charAt(at) === "`") return passed(at + 1, '"');
        braces.push(0);
        passed(at + 2, "{");
      }
      function slash(start) {
        var last = before(start);
        at = start + 1;
        if (/[\w$)\]"'`]$/.test(last) && !OPERATORS.test(last)) return;
        REGEX.lastIndex = start;
        if (REGEX.test(text)) passed(REGEX.lastIndex, '"');
      }
      function wrap(start, length, more) {
        replace(start, start + length, ADDRESS + text.substr(start, length) + ")" + (more || ""));
      }
      function chain(start, names) {
        var last = before(start), rest = text.slice(start + names.length, start + names.length + 200);
        if (names === "import") {
          if (!/\.$/.test(last) && /^\s*\(\s*[^)\s]/.test(rest)) replace(start, at += /^\s*\(/.exec(rest)[0].length, "__hatchwayImport(function(u){return import(u)},");
          return;
        }
        if (/[)\]]\s*\??\.$/.test(last) && /^location\s*\??\.\s*(?:href|pathname)(?![\w$])/.test(names) && !/^\s*(?:=(?!=)|[+]=)/.test(rest)) {
          replace(start, start + 8, "__hatchwayLocation");
          return;
        }
        if (NO_VALUE.test(last) || /^(?:super|import|new)(?![\w$])/.test(names)) return;
        var member = /^([^]*?[\w$])\s*\??\.\s*(?:href|pathname)(?![\w$])/.exec(names) ||
          /^((?:.*?\.\s*)?location)\s*\??\.\s*(?:assign|replace|toString)(?![\w$])/.exec(names);
        if (member) {
          if (member[1].indexOf("?") < 0) wrap(start, member[1].length);
        } else if (/(?:^|\.\s*)location$/.test(names) && names.indexOf("?") < 0) {
          if (/^\s*\[/.test(rest)) wrap(start, names.length);
          else if (names === "location") {
            if (isArgument(last, rest)) wrap(start, names.length);
          } else if (/^\s*=(?![=>])/.test(rest)) {
            if (/^(?:window|globalThis|document)\b/.test(names)) wrap(start, names.length, ".href");
          } else if (/^\s*(?:[;)](?!\s*=[^=])|$)/.test(rest) || (/^\s*[,}\]:]/.test(rest) && (/[=|&?(+!>]$/.test(last) || OPERATORS.test(last)))) {
            wrap(start, names.length);
          }
        }
      }
      while (at < text.length) {
        STOP.lastIndex = at;
        var found = STOP.exec(text);
        if (!found) break;
        var start = found.index, token = found[0], first = token.charAt(0);
        at = start + token.length;
        if (token === "`") inTemplate();
        else if (first === '"' || first === "'") { if (token.length > 1) passed(at, '"'); }
        else if (token === "/") slash(start);
        else if (first === "/") passed(at, before(start));
        else if (token === "}") {
          if (braces.length && !braces[braces.length - 1]--) {
            braces.pop();
            inTemplate();
          }
        } else if (token === "{") { if (braces.length) braces[braces.length - 1]++; }
        else if (first === "{") {
          var object = new RegExp(CHAIN + "$").exec(token)[0];
          wrap(at - object.length, object.length);
        } else chain(start, token);
      }
      return out + text.slice(put);
    }

    // Whether `location` is handed to a function, and is not the name of a parameter.
    function isArgument(last, rest) {
      return /[\w$)\]]\s*\($/.test(last) && /^\s*\)(?!\s*(?:\{|=>))/.test(rest) &&
        !/(?:^|[^\w$.])(?:function(?:\s+[\w$]+)?|catch|if|while|for|switch|with)\s*\($/.test(last);
    }

    function codeOf(value) {
      if (isTrusted("Script", value)) {
        var text = String(value), mapped = code(text);
        return mapped === text ? value : trusted("Script", mapped) || value;
      }
      return typeof value === "string" ? code(value) : value;
    }
    define(global, "__hatchwayCode", codeOf);

    function lastIsCode(args) {
      if (args.length) args[args.length - 1] = codeOf(args[args.length - 1]);
    }
    [function () {}, async function () {}, function* () {}, async function* () {}].forEach(function (one) {
      var proto = Object.getPrototypeOf(one), Native = proto.constructor;
      var Ours = new Proxy(Native, {
        apply: function (target, self, args) {
          lastIsCode(args);
          return Reflect.apply(target, self, args);
        },
        construct: function (target, args, newTarget) {
          lastIsCode(args);
          return Reflect.construct(target, args, newTarget === Ours ? target : newTarget);
        },
      });
      define(proto, "constructor", Ours);
      if (Native === global.Function) define(global, "Function", Ours);
    });
    constructor("Blob", function (args) {
      var parts = args[0], type = args[1] && args[1].type;
      if (!/javascript|ecmascript/i.test(type) || !Array.isArray(parts)) return;
      if (parts.every(function (part) { return typeof part === "string"; })) args[0] = [code(parts.join(""))];
    });

    // Workers. A script that was made on the spot (`blob:`) gets this one before it; an address is the server's matter.

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

    // This file as it was served, byte by byte: a policy may know it by its hash.
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
      // One made on the spot is shared by its address, which must stay.
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

    // What a service worker gives as a page or as a worker's script was asked for as neither (`fetch(event.request)`, a
    // cache), so it came without this file.
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

    // Cookies: `Path` under the prefix; `__Host-` as cookies.py has it.

    function cookie(text) {
      text = String(text).replace(/^\s*__Host-/i, "__Hatchway-Host-").replace(/;\s*domain\s*=[^;]*/gi, "");
      return text.replace(/(;\s*path\s*=\s*)(\/[^;]*)/gi, function (all, name, path) {
        path = path.trim();
        return name + (has(path) ? path : PREFIX + (path === "/" ? "" : path));
      });
    }
    accessor("Document", "cookie", function (text) {
      return text.replace(/(^|; )__Hatchway-Host-/g, "$1__Host-");
    }, cookie);
    if (global.CookieStore) {
      var path = function (given) {
        given = String(given || "/");
        return has(given) ? given : PREFIX + (given === "/" ? "" : given);
      };
      method(global.CookieStore.prototype, "set", function (args) {
        var given = args.length > 1 ? { name: args[0], value: args[1] } : Object.assign({}, args[0]);
        given.path = path(given.path);
        delete given.domain;
        args.length = 0;
        args.push(given);
      });
      method(global.CookieStore.prototype, "delete", function (args) {
        var given = typeof args[0] === "string" ? { name: args[0] } : Object.assign({}, args[0]);
        given.path = path(given.path);
        args[0] = given;
      });
    }

    if (!doc) return;

    // What follows is for documents.

    native.baseURI = getter("Node", "baseURI");
    native.get = global.Element.prototype.getAttribute;
    native.set = global.Element.prototype.setAttribute;
    native.remove = global.Element.prototype.removeAttribute;

    function state(args) {
      if (args.length > 2 && args[2] !== null && args[2] !== undefined) args[2] = add(String(args[2]));
    }
    method(global.History.prototype, "pushState", state);
    method(global.History.prototype, "replaceState", state);
    ["URL", "documentURI", "referrer"].forEach(function (name) { accessor("Document", name, del); });
    accessor("Node", "baseURI", del);

    function html(value) {
      if (isTrusted("HTML", value)) {
        var text = String(value), mapped = htmlText(text);
        return mapped === text ? value : trusted("HTML", mapped) || value;
      }
      return typeof value === "string" ? htmlText(value) : value;
    }

    // Between the tags of these is text, not markup: `i<c.length` begins no element.
    var RAW = /^(?:script|style|textarea|title|xmp|noembed|noframes|iframe)$/;

    function htmlText(text) {
      if (text.indexOf("<") < 0 || !/[="'\s,(](?:\/|https?:|&#)/i.test(text)) return text;
      var tags = /<!(?:--)[^]*?-->|<([a-z][^\s\/>]*)(?:[^>"']|"[^"]*"|'[^']*')*>/gi;
      var out = "", done = 0, found;
      while ((found = tags.exec(text))) {
        if (!found[1]) continue;
        var name = found[1].toLowerCase();
        out += text.slice(done, found.index) + tagText(found[0], name);
        done = tags.lastIndex;
        if (!RAW.test(name)) continue;
        var close = text.slice(done).search(new RegExp("<\\/" + name + "[\\s\\/>]", "i"));
        var end = close < 0 ? text.length : done + close;
        var content = text.slice(done, end);
        out += name === "style" ? css(content) : content;
        done = tags.lastIndex = end;
      }
      return out + text.slice(done);
    }

    function tagText(tag, name) {
      return tag.replace(/([\s"'\/])([a-z:]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)/gi, function (all, space, attribute, equals, value) {
        var kind = kindOf(name, attribute.toLowerCase());
        if (!kind) return all;
        var quote = /^["']/.test(value) ? value.charAt(0) : "";
        var plain = quote ? value.slice(1, -1) : value;
        return space + attribute + equals + quote + change(kind, plain) + quote;
      });
    }

    // Elements and their attributes: page.py has the same lists.

    var URLS = {
      a: "href", area: "href", audio: "src", base: "href", body: "background", button: "formaction", embed: "src",
      feimage: "href xlink:href", form: "action", frame: "src", iframe: "src", image: "href xlink:href src", img: "src",
      input: "src formaction", link: "href", object: "data codebase", portal: "src", script: "src href xlink:href",
      source: "src", table: "background", td: "background", th: "background", track: "src", use: "href xlink:href",
      video: "src poster",
    };
    var SETS = { img: "srcset", source: "srcset", link: "imagesrcset" };

    function includes(list, name) {
      return list !== undefined && (" " + list + " ").indexOf(" " + name + " ") >= 0;
    }

    function kindOf(element, attribute) {
      if (attribute === "style") return "style";
      if (includes(URLS[element], attribute)) return "url";
      if (includes(SETS[element], attribute)) return "set";
      return "";
    }

    function change(kind, value) {
      if (kind === "url") return add(value);
      if (typeof value !== "string") return value;
      return kind === "set" ? each(value, addText) : css(value);
    }

    function kindFor(element, attribute) {
      return kindOf(String(element.localName).toLowerCase(), String(attribute).toLowerCase());
    }

    // Files of the application may be changed on their way, so that their checksums are wrong.
    function ownFile(element) {
      var url = native.get.call(element, "src") || native.get.call(element, "href");
      return Boolean(url) && ownAddress(url);
    }
    function ownAddress(url) {
      try { return new NativeURL(url, base()).host === here.host; } catch (e) { return false; }
    }
    function loosen(element, url) {
      if (/^(?:script|link)$/.test(element.localName) && native.get.call(element, "integrity") && ownAddress(url)) {
        native.remove.call(element, "integrity");
      }
    }

    function setter(name, at) {
      method(global.Element.prototype, name, function (args, self) {
        var attribute = args[at];
        var kind = kindFor(self, attribute);
        if (kind) {
          args[at + 1] = change(kind, args[at + 1]);
          if (kind === "url") loosen(self, args[at + 1]);
        } else if (attribute === "srcdoc" && self.localName === "iframe") {
          args[at + 1] = inner(html(String(args[at + 1])));
        } else if (attribute === "integrity" && ownFile(self)) {
          args[at + 1] = "";
        }
      });
    }
    setter("setAttribute", 0);
    setter("setAttributeNS", 1);

    function reader(name, at) {
      var found = global.Element.prototype[name];
      global.Element.prototype[name] = new Proxy(found, {
        apply: function (target, self, args) {
          var value = Reflect.apply(target, self, args);
          if (typeof value !== "string") return value;
          var kind = kindFor(self, args[at]);
          return kind === "url" ? del(value) : kind === "set" ? each(value, del) : value;
        },
      });
    }
    reader("getAttribute", 0);
    reader("getAttributeNS", 1);

    function property(type, name) {
      accessor(type, name, del, function (value, element) {
        var mapped = typeof value === "string" || (value && typeof value === "object") ? add(value) : value;
        loosen(element, mapped);
        return mapped;
      });
    }
    [
      "HTMLAnchorElement href", "HTMLAreaElement href", "HTMLBaseElement href", "HTMLLinkElement href",
      "HTMLScriptElement src", "HTMLImageElement src", "HTMLSourceElement src", "HTMLMediaElement src",
      "HTMLVideoElement poster", "HTMLIFrameElement src", "HTMLFrameElement src", "HTMLEmbedElement src",
      "HTMLObjectElement data", "HTMLTrackElement src", "HTMLInputElement src", "HTMLInputElement formAction",
      "HTMLButtonElement formAction", "HTMLFormElement action", "HTMLBodyElement background",
    ].forEach(function (one) {
      var parts = one.split(" ");
      property(parts[0], parts[1]);
    });
    accessor("HTMLImageElement", "currentSrc", del);
    accessor("HTMLMediaElement", "currentSrc", del);
    [["HTMLImageElement", "srcset"], ["HTMLSourceElement", "srcset"], ["HTMLLinkElement", "imageSrcset"]].forEach(function (one) {
      accessor(one[0], one[1], function (value) { return each(value, del); }, function (value) {
        return each(String(value), addText);
      });
    });
    ["HTMLScriptElement", "HTMLLinkElement"].forEach(function (type) {
      accessor(type, "integrity", null, function (value, element) { return ownFile(element) ? "" : value; });
    });
    ["HTMLAnchorElement", "HTMLAreaElement"].forEach(function (type) {
      accessor(type, "pathname", del, function (value) { return under(("/" + value).replace(/^\/+/, "/")); });
      var proto = global[type] && global[type].prototype;
      if (proto) define(proto, "toString", function () { return this.href; });
    });
    constructor("Audio", first);

    // Selectors that name an address: with the prefix, or as it was written.

    var ADDRESSED = /\[\s*(href|src|action|formaction|poster)\s*(\^?=)\s*(["']?)(\/(?![\/\\])[^"'\]\\]*)\3\s*\]/gi;
    function selector(args) {
      if (typeof args[0] !== "string" || args[0].indexOf("[") < 0) return;
      args[0] = args[0].replace(ADDRESSED, function (all, name, operator, quote, url) {
        return ":is(" + all + ",[" + name + operator + "\"" + under(url) + "\"])";
      });
    }
    [global.Document, global.DocumentFragment, global.Element].forEach(function (type) {
      ["querySelector", "querySelectorAll", "matches", "closest"].forEach(function (name) {
        if (Object.prototype.hasOwnProperty.call(type.prototype, name)) method(type.prototype, name, selector);
      });
    });

    // Text that becomes elements.

    function markup(args) { if (args.length) args[0] = html(args[0]); }
    function opening(args) {
      for (var i = 0; i < args.length; i++) args[i] = html(args[i]);
    }
    ["innerHTML", "outerHTML"].forEach(function (name) { accessor("Element", name, null, html); });
    accessor("ShadowRoot", "innerHTML", null, html);
    method(global.Element.prototype, "insertAdjacentHTML", function (args) { args[1] = html(args[1]); });
    method(global.Element.prototype, "setHTMLUnsafe", markup);
    method(global.Range.prototype, "createContextualFragment", markup);
    method(global.Document.prototype, "write", opening);
    method(global.Document.prototype, "writeln", opening);
    ["HTMLScriptElement text", "HTMLScriptElement textContent", "HTMLScriptElement innerText", "Node textContent"].forEach(function (one) {
      var parts = one.split(" ");
      accessor(parts[0], parts[1], null, codeFor);
    });
    method(global.Node.prototype, "appendChild", function (args, self) {
      if (self.localName === "script" && args[0] && args[0].nodeType === 3) args[0].data = codeFor(args[0].data, self);
    });
    accessor("HTMLIFrameElement", "srcdoc", null, function (value) {
      return typeof value === "string" ? inner(html(value)) : html(value);
    });

    // The text of a script's element: code, or an import map; all else is data.
    function codeFor(value, element) {
      if (element.localName === "script" && element.type === "importmap") return importMap(value);
      return element.localName === "script" && /^$|javascript|module|ecmascript/i.test(element.type) ? codeOf(value) : value;
    }

    function importMap(text) {
      try {
        var found = JSON.parse(text);
        delete found.integrity;
        return JSON.stringify(found, function (key, value) {
          if (typeof value === "string") return addText(value);
          if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
          return Object.fromEntries(Object.entries(value).map(function (pair) { return [addText(pair[0]), pair[1]]; }));
        });
      } catch (e) {
        return text;
      }
    }

    // A page inside an attribute gets this script as well.
    function inner(text) {
      var call = "<script>try{parent.__hatchwayInstall(window)}catch(e){}<" + "/script>";
      return /^\s*<!doctype[^>]*>/i.test(text) ? text.replace(/^\s*<!doctype[^>]*>/i, "$&" + call) : call + text;
    }
    define(global, "__hatchwayInstall", function (window) { install(window, here); });

    // Styles.

    if (global.CSSStyleSheet) {
      ["insertRule", "replace", "replaceSync"].forEach(function (name) {
        method(global.CSSStyleSheet.prototype, name, function (args) { args[0] = css(args[0]); });
      });
    }
    var Style = global.CSSStyleDeclaration && global.CSSStyleDeclaration.prototype;
    if (Style) {
      method(Style, "setProperty", function (args) { args[1] = css(args[1]); });
      ["cssText", "background", "backgroundImage", "listStyle", "listStyleImage", "cursor", "maskImage", "borderImage"].forEach(function (name) {
        accessor(Style, name, null, css);
      });
    }

    // Windows, inner and new ones. An empty one has no page that could bring the script.

    function child(window) {
      try {
        if (window && !window.__hatchway && /^about:/.test(window.location.href)) install(window, here);
      } catch (e) {}
      return window;
    }
    accessor("HTMLIFrameElement", "contentWindow", child);
    accessor("HTMLIFrameElement", "contentDocument", function (found) {
      if (found) child(found.defaultView);
      return found;
    });
    method(global, "open", function (args) { if (args[0]) first(args); });

    // Going somewhere.

    var destination = getter("NavigationDestination", "url");
    accessor("NavigationDestination", "url", del);
    accessor("NavigationHistoryEntry", "url", del);
    var navigation = global.navigation;
    if (navigation && destination) {
      method(global.Navigation.prototype, "navigate", first);
      navigation.addEventListener("navigate", function (event) {
        if (!event.cancelable || event.hashChange || event.formData || event.navigationType === "traverse") return;
        if (event.destination.sameDocument) return;
        var wanted = destination.call(event.destination);
        var mapped = addText(wanted);
        if (mapped === wanted || /^(?:blob|data|javascript):/.test(wanted)) return;
        event.preventDefault();
        var how = event.navigationType === "replace" ? "replace" : "assign";
        setTimeout(function () { place[how](mapped); }, 0);
      });
    }

    function fix(element) {
      var name = String(element.localName).toLowerCase();
      var lists = (URLS[name] || "") + " " + (SETS[name] || "") + " style";
      lists.split(" ").forEach(function (attribute) {
        var value = attribute && native.get.call(element, attribute);
        if (!value) return;
        var mapped = change(kindOf(name, attribute), value);
        if (mapped !== value) native.set.call(element, attribute, mapped);
      });
      if (native.get.call(element, "integrity") && ownFile(element)) loosen(element, base());
    }

    function acting(event) {
      var path = event.composedPath ? event.composedPath() : [event.target];
      for (var i = 0; i < path.length; i++) {
        if (path[i].nodeType === 1 && /^(?:a|area)$/i.test(path[i].localName)) fix(path[i]);
      }
    }
    global.addEventListener("click", acting, true);
    global.addEventListener("auxclick", acting, true);
    global.addEventListener("submit", function (event) {
      if (event.target && event.target.nodeType === 1) fix(event.target);
      if (event.submitter) fix(event.submitter);
    }, true);
    method(global.HTMLFormElement.prototype, "submit", function (args, self) { fix(self); });

    // Whatever came in by another way.

    var SELECTOR = "[href],[src],[srcset],[action],[formaction],[data],[poster],[imagesrcset],[background],[style]";
    SELECTOR += ",use,image,[integrity]";
    var FILTER = ["href", "src", "srcset", "action", "formaction", "data", "poster", "imagesrcset", "style", "xlink:href"];
    var observer = new global.MutationObserver(function (records) {
      for (var i = 0; i < records.length; i++) {
        var record = records[i];
        if (record.type === "attributes") {
          fix(record.target);
          continue;
        }
        for (var j = 0; j < record.addedNodes.length; j++) {
          var node = record.addedNodes[j];
          if (node.nodeType !== 1) continue;
          fix(node);
          if (!node.firstElementChild) continue;
          var found = node.querySelectorAll(SELECTOR);
          for (var k = 0; k < found.length; k++) fix(found[k]);
        }
      }
    });
    function watch(root) {
      observer.observe(root, { subtree: true, childList: true, attributes: true, attributeFilter: FILTER });
    }
    watch(doc);
    var attach = global.Element.prototype.attachShadow;
    define(global.Element.prototype, "attachShadow", function (options) {
      var root = attach.call(this, options);
      watch(root);
      return root;
    });
  }

  install(self);
})("/__PREFIX__", ["__HOSTS__"]);
