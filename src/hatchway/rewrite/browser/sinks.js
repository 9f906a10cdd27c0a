// Text that scripts insert as elements.

function markup(args) { if (args.length) args[0] = html(args[0]); }
function opening(args) {
  for (var i = 0; i < args.length; i++) args[i] = html(args[i]);
}
["innerHTML", "outerHTML"].forEach(function (name) {
  accessor("Element", name, function (value, element) {
    return name === "innerHTML" && holds(element) ? contentOf(value, element) : plainText(value);
  }, function (value, element) {
    return name === "innerHTML" && holds(element) ? contentFor(value, element) : html(value);
  });
});
accessor("ShadowRoot", "innerHTML", plainText, html);
["Element", "ShadowRoot"].forEach(function (type) { result(global[type].prototype, "getHTML", plainText); });
result(global.XMLSerializer.prototype, "serializeToString", plainText);
method(global.Element.prototype, "insertAdjacentHTML", function (args, self) {
  args[1] = holds(self) && /^(?:afterbegin|beforeend)$/i.test(args[0]) ? contentFor(args[1], self) : html(args[1]);
});
method(global.Element.prototype, "setHTMLUnsafe", markup);
method(global.Range.prototype, "createContextualFragment", markup);
method(global.Document.prototype, "write", opening);
method(global.Document.prototype, "writeln", opening);

// The text of script and style elements, in all ways in which a script can set or read it.

function contentFor(value, element) {
  if (element.localName === "style") return isTrusted("HTML", value) ? value : css(value === null ? value : String(value));
  return codeFor(value, element);
}
function contentOf(value, element) {
  if (element.localName === "style") return uncss(value);
  return element.localName === "script" ? uncode(value) : value;
}
["HTMLScriptElement text", "HTMLScriptElement textContent", "HTMLScriptElement innerText", "HTMLElement innerText",
  "HTMLElement outerText"].forEach(function (one) {
  var parts = one.split(" ");
  accessor(parts[0], parts[1], contentOf, contentFor);
});

function holds(node) { return node && node.nodeType === 1 && /^(?:script|style)$/.test(node.localName); }
// The text of a node: a script or style element, a text node in one, or an attribute.
function reading(value, node) {
  if (node.nodeType === 1) return contentOf(value, node);
  if (node.nodeType === 3 && value && holds(node.parentNode)) return contentOf(value, node.parentNode);
  return node.nodeType === 2 && node.ownerElement ? unchange(kindFor(node.ownerElement, node.name), value) : value;
}
function writing(value, node) {
  if (node.nodeType === 1) return contentFor(value, node);
  if (node.nodeType === 3 && holds(node.parentNode)) return contentFor(value, node.parentNode);
  return node.nodeType === 2 && node.ownerElement ? change(kindFor(node.ownerElement, node.name), value) : value;
}
accessor("Node", "textContent", reading, writing);
accessor("Node", "nodeValue", reading, writing);
accessor("Attr", "value", reading, writing);
accessor("CharacterData", "data", reading, writing);

// Change nodes or strings that are inserted into `parent`, if it is a script or style element.
function coming(args, parent) {
  if (!holds(parent)) return;
  for (var i = 0; i < args.length; i++) {
    if (typeof args[i] === "string") args[i] = contentFor(args[i], parent);
    else if (args[i] && args[i].nodeType === 3) {
      var text = native.data.call(args[i]), mapped = contentFor(text, parent);
      if (mapped !== text) native.setData.call(args[i], mapped);
    } else if (args[i] && args[i].nodeType === 11) coming(Array.prototype.slice.call(args[i].childNodes), parent);
  }
}
["appendChild", "insertBefore", "replaceChild"].forEach(function (name) {
  method(global.Node.prototype, name, function (args, self) { if (holds(self)) coming([args[0]], self); });
});
["append", "prepend", "replaceChildren"].forEach(function (name) {
  method(global.Element.prototype, name, coming);
});
[global.Element, global.CharacterData].forEach(function (type) {
  ["before", "after", "replaceWith"].forEach(function (name) {
    method(type.prototype, name, function (args, self) { coming(args, self.parentNode); });
  });
});
method(global.Element.prototype, "insertAdjacentText", function (args, self) {
  if (/^(?:afterbegin|beforeend)$/i.test(args[0])) args[1] = contentFor(String(args[1]), self);
});
["appendData", "insertData", "replaceData", "deleteData"].forEach(function (name) {
  result(global.CharacterData.prototype, name, function (found, node) {
    if (holds(node.parentNode)) restyle(node.parentNode);
  });
});
// Rewrite a style's whole text after a part of it was changed: an address may have been inserted in several parts.
function restyle(element) {
  if (element.localName !== "style") return;
  for (var node = element.firstChild; node; node = node.nextSibling) {
    if (node.nodeType !== 3) continue;
    var text = native.data.call(node), mapped = css(text);
    if (mapped !== text) native.setData.call(node, mapped);
  }
}
accessor("HTMLIFrameElement", "srcdoc", function (text) {
  return plainText(text.replace(CALL_OF_PARENT, ""));
}, function (value) {
  return typeof value === "string" ? inner(html(value)) : html(value);
});

// Return the changed text of a script element: code or an import map. Other types are data.
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

// The page in an attribute `srcdoc` gets this script, too.
var CALL_OF_PARENT = "<script>try{parent.__hatchwayInstall(window);document.currentScript.remove()}catch(e){}<" + "/script>";
function inner(text) {
  var call = CALL_OF_PARENT;
  return /^\s*<!doctype[^>]*>/i.test(text) ? text.replace(/^\s*<!doctype[^>]*>/i, "$&" + call) : call + text;
}
define(global, "__hatchwayInstall", function (window) { install(window, here); });
