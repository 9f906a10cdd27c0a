// Attributes of elements, as scripts write and read them.

function includes(list, name) {
  return list !== undefined && (" " + list + " ").indexOf(" " + name + " ") >= 0;
}

function kindOf(element, attribute) {
  if (includes(STYLES, attribute)) return "style";
  if (/^on[a-z]+$/.test(attribute)) return "code";
  if (includes(LISTS[element], attribute)) return "list";
  if (includes(URLS[element], attribute) || includes(ANY_URLS, attribute)) return "url";
  return includes(CANDIDATES, attribute) ? "set" : "";
}

function change(kind, value) {
  if (kind === "url") return add(value);
  if (kind === "code") return codeOf(value);
  if (typeof value !== "string" || !kind) return value;
  if (kind === "list") return value.replace(/\S+/g, addText);
  return kind === "set" ? each(value, addText) : css(value);
}

function unchange(kind, value) {
  if (typeof value !== "string" || !kind) return value;
  if (kind === "url") return del(value);
  if (kind === "code") return uncode(value);
  if (kind === "list") return value.replace(/\S+/g, del);
  return kind === "set" ? each(value, del) : uncss(value);
}

function kindFor(element, attribute) {
  return kindOf(String(element.localName).toLowerCase(), String(attribute).toLowerCase());
}

// The application's files may be changed on the way to the browser, and then their checksums (`integrity`) do not
// match.
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
      if (args[at] === "srcdoc") return plainText(value.replace(CALL_OF_PARENT, ""));
      return unchange(kindFor(self, args[at]), value);
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
  "HTMLButtonElement formAction", "HTMLFormElement action", "HTMLBodyElement background", "HTMLQuoteElement cite",
  "HTMLModElement cite", "HTMLImageElement longDesc", "HTMLIFrameElement longDesc", "HTMLFrameElement longDesc",
  "HTMLImageElement lowsrc", "HTMLObjectElement codeBase",
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
["HTMLAnchorElement", "HTMLAreaElement"].forEach(function (type) {
  accessor(type, "ping", function (value) { return unchange("list", value); }, function (value) { return change("list", String(value)); });
});
["setAttributeNode", "setAttributeNodeNS"].forEach(function (name) {
  result(global.Element.prototype, name, function (found, self) { fix(self); return found; });
});
["setNamedItem", "setNamedItemNS"].forEach(function (name) {
  result(global.NamedNodeMap.prototype, name, function (found, self) {
    if (self.length && self[0].ownerElement) fix(self[0].ownerElement);
    return found;
  });
});

// SVG: `use.href.baseVal`. The object `href` does not show that it belongs to an `href` attribute, so the objects that
// scripts have read from `href` are remembered.

var addressed = new WeakSet();
["SVGAElement", "SVGImageElement", "SVGUseElement", "SVGScriptElement", "SVGFEImageElement", "SVGGradientElement",
  "SVGPatternElement", "SVGTextPathElement", "SVGMPathElement"].forEach(function (type) {
  accessor(type, "href", function (found) {
    addressed.add(found);
    return found;
  });
});
accessor("SVGAnimatedString", "baseVal", function (value, self) { return addressed.has(self) ? del(value) : value; }, function (value, self) {
  return addressed.has(self) ? add(String(value)) : value;
});
accessor("SVGAnimatedString", "animVal", function (value, self) { return addressed.has(self) ? del(value) : value; });

// A selector with an address matches the address with the prefix, too.

var ADDRESSED = /\[\s*(href|src|action|formaction|poster|cite|data|longdesc|background)\s*(\^?=)\s*(["']?)(\/(?![\/\\])[^"'\]\\]*)\3\s*\]/gi;
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
