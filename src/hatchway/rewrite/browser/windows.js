// Frames and new windows. An empty window has no page that could contain this script, so its opener installs it.

function child(window) {
  try {
    // Documents that are not pages (an image, plain text) do not contain the script, either.
    if (window && !window.__hatchway && (/^about:/.test(window.location.href) || (window.document.readyState === "complete" && has(window.location.pathname)))) {
      install(window, here);
    }
  } catch (e) {}
  return window;
}
["HTMLIFrameElement", "HTMLFrameElement"].forEach(function (type) { accessor(type, "contentWindow", child); });
accessor("HTMLIFrameElement", "contentDocument", function (found) {
  if (found) child(found.defaultView);
  return found;
});
// Reading `frames[0]` cannot be intercepted, so the script is installed when a frame is inserted or loaded.
function framed(node) {
  if (node && /^i?frame$/.test(node.localName)) return node.contentWindow;
}
doc.addEventListener("load", function (event) { framed(event.target); }, true);
["appendChild", "insertBefore", "replaceChild"].forEach(function (name) {
  result(global.Node.prototype, name, function (found, self, args) {
    framed(args[0]);
    return found;
  });
});
["append", "prepend", "replaceChildren"].forEach(function (name) {
  result(global.Element.prototype, name, function (found, self, args) { args.forEach(framed); });
});
method(global, "open", function (args) { if (args[0]) first(args); });
result(global, "open", child);

// Navigation.

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
  var lists = [URLS[name], LISTS[name], ANY_URLS, CANDIDATES, "style"].join(" ");
  lists.split(" ").forEach(function (attribute) {
    var value = attribute && native.get.call(element, attribute);
    if (!value) return;
    var mapped = change(kindOf(name, attribute), value);
    if (mapped === value) return;
    // A policy may have blocked a `style` attribute (then there are no declarations), or may forbid scripts to write
    // the attribute. Scripts may always set declarations.
    if (attribute !== "style" || !element.style) native.set.call(element, attribute, mapped);
    else if (element.style.length) native.setStyle.call(element.style, css(native.style.call(element.style)));
  });
  if (name === "style" && element.sheet) restyle(element);
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

// Elements that came into the page in ways that are not intercepted above.

var SELECTOR = "[href],[src],[srcset],[action],[formaction],[data],[poster],[imagesrcset],[background],[style]";
SELECTOR += ",iframe,use,image,[integrity],style,[ping],[cite],[longdesc]";
var FILTER = ["href", "src", "srcset", "action", "formaction", "data", "poster", "imagesrcset", "style", "xlink:href",
  "ping", "cite", "longdesc"];
var observer = new global.MutationObserver(function (records) {
  for (var i = 0; i < records.length; i++) {
    var record = records[i];
    if (record.type === "characterData" || /^style$/i.test(record.target.localName)) {
      var sheet = record.type === "characterData" ? record.target.parentNode : record.target;
      if (sheet && sheet.localName === "style" && sheet.sheet) restyle(sheet);
      if (record.type !== "attributes") continue;
    }
    if (record.type === "attributes") {
      fix(record.target);
      continue;
    }
    for (var j = 0; j < record.addedNodes.length; j++) {
      var node = record.addedNodes[j];
      if (node.nodeType !== 1) continue;
      fix(node);
      framed(node);
      if (!node.firstElementChild) continue;
      var found = node.querySelectorAll(SELECTOR);
      for (var k = 0; k < found.length; k++) {
        fix(found[k]);
        framed(found[k]);
      }
    }
  }
});
function watch(root) {
  observer.observe(root, { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: FILTER });
}
watch(doc);
var attach = global.Element.prototype.attachShadow;
define(global.Element.prototype, "attachShadow", function (options) {
  var root = attach.call(this, options);
  watch(root);
  return root;
});
