// Styles: rules, sheets and declarations.

["CSSStyleSheet insertRule", "CSSStyleSheet replace", "CSSStyleSheet replaceSync", "CSSGroupingRule insertRule",
  "CSSStyleRule insertRule", "CSSKeyframesRule appendRule"].forEach(function (one) {
  var parts = one.split(" "), type = global[parts[0]];
  if (type) method(type.prototype, parts[1], function (args) { args[0] = css(args[0]); });
});
if (global.CSSStyleSheet) method(global.CSSStyleSheet.prototype, "addRule", function (args) { args[1] = css(args[1]); });
accessor("StyleSheet", "href", del);
accessor("CSSImportRule", "href", del);
accessor("CSSRule", "cssText", uncss, css);

var Style = global.CSSStyleDeclaration && global.CSSStyleDeclaration.prototype;
if (Style) {
  method(Style, "setProperty", function (args) { args[1] = css(args[1]); });
  result(Style, "getPropertyValue", uncss);
  accessor(Style, "cssText", uncss, css);
  // The other properties belong to each object, so this script cannot intercept their setters. Those of elements are
  // corrected afterwards (windows.js); for rules, the object is replaced by a Proxy.
  accessor("CSSStyleRule", "style", function (style) {
    return new Proxy(style, {
      get: function (target, name) {
        var value = Reflect.get(target, name);
        return typeof value === "function" ? value.bind(target) : uncss(value);
      },
      set: function (target, name, value) { return Reflect.set(target, name, css(value)); },
    });
  });
}
if (global.StylePropertyMap) {
  ["set", "append"].forEach(function (name) {
    method(global.StylePropertyMap.prototype, name, function (args) {
      for (var i = 1; i < args.length; i++) args[i] = css(args[i]);
    });
  });
}

function inFrames(value) {
  if (value === null || typeof value !== "object") return css(value);
  if (Array.isArray(value)) return value.map(inFrames);
  return Object.fromEntries(Object.entries(value).map(function (pair) { return [pair[0], inFrames(pair[1])]; }));
}
function keyframes(at) {
  return function (args) {
    if (args[at] && /url\(|image-set\(/i.test(JSON.stringify(args[at]))) args[at] = inFrames(args[at]);
  };
}
method(global.Element.prototype, "animate", keyframes(0));
if (global.KeyframeEffect) {
  constructor("KeyframeEffect", keyframes(1));
  method(global.KeyframeEffect.prototype, "setKeyframes", keyframes(0));
}
