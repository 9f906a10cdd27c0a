// Functions and constructors that run text as code.

function codeOf(value) {
  if (isTrusted("Script", value)) {
    var text = String(value), mapped = code(text);
    return mapped === text ? value : trusted("Script", mapped) || value;
  }
  return typeof value === "string" ? code(value) : value;
}
define(global, "__hatchwayCode", codeOf);

// Return code as the application has written it: remove what was inserted, as far as it can be recognized.
function uncode(text) {
  if (typeof text !== "string" || text.indexOf("__hatchway") < 0) return text;
  return text
    .replace(/(?:globalThis\.__hatchway(?:Meta)?|\(globalThis\.__hatchway(?:Meta)?\|\|\(_=>_\)\))\(([\w$.?\s]+(?:\[[^\[\]]*\])?)\)/g, "$1")
    .replace(/\?\.__hatchwaySelf\./g, "?.")
    .replace(/\??\.__hatchwaySelf(?![\w$])/g, "")
    .replace(/\{__hatchwaySelf:(\{[^{}]*\})\}/g, "$1")
    .replace(/__hatchwayLocation/g, "location");
}

// Timers accept code as text, too.
["setTimeout", "setInterval"].forEach(function (name) {
  method(global, name, function (args) {
    if (args.length && typeof args[0] !== "function") args[0] = codeOf(args[0]);
  });
});

function lastIsCode(args) {
  if (args.length) args[args.length - 1] = codeOf(args[args.length - 1]);
}
var kinds = home ? [global.Function] : [function () {}, async function () {}, function* () {}, async function* () {}];
kinds.forEach(function (one) {
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
