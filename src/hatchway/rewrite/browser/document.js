// From here on, the files are for documents only, not for workers.

native.baseURI = getter("Node", "baseURI");
native.create = global.Document.prototype.createElement;
native.fill = Object.getOwnPropertyDescriptor(global.Element.prototype, "innerHTML").set;
native.data = getter("CharacterData", "data");
native.setData = Object.getOwnPropertyDescriptor(global.CharacterData.prototype, "data").set;
native.setStyle = Object.getOwnPropertyDescriptor(global.CSSStyleDeclaration.prototype, "cssText").set;
native.style = getter("CSSStyleDeclaration", "cssText");
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

// Remove this script's element, so that the application finds its own elements first.
var own = doc.currentScript;
if (own && own.textContent.indexOf("(function hatchway(") >= 0 && own.textContent.length < 200000) own.remove();
