// Markup: addresses get the prefix when a script writes markup, and lose it when a script reads markup.

function html(value) {
  if (isTrusted("HTML", value)) {
    var text = String(value), mapped = htmlText(text);
    return mapped === text ? value : trusted("HTML", mapped) || value;
  }
  return typeof value === "string" ? htmlText(value) : value;
}

// Elements whose content is text and not markup: `i<c.length` begins no element.
var RAW = /^(?:script|style|textarea|title|xmp|noembed|noframes|iframe)$/;

function htmlText(text) {
  if (text.indexOf("<") < 0 || !/[="'\s,(](?:\/|https?:|&#)|\son\w|javascript:|location|href|pathname/i.test(text)) return text;
  return tags(text, change, css, function (content) { return content; });
}

// Return markup that a script reads as the application has written it.
function plainText(text) {
  if (typeof text !== "string" || (text.indexOf(PREFIX) < 0 && text.indexOf("__hatchway") < 0)) return text;
  return tags(text, unchange, uncss, uncode);
}

function tags(text, map, style, script) {
  var pattern = /<!(?:--)[^]*?-->|<([a-z][^\s\/>]*)(?:[^>"']|"[^"]*"|'[^']*')*>/gi;
  var out = "", done = 0, found;
  while ((found = pattern.exec(text))) {
    if (!found[1]) continue;
    var name = found[1].toLowerCase();
    out += text.slice(done, found.index) + tagText(found[0], name, map);
    done = pattern.lastIndex;
    if (!RAW.test(name)) continue;
    var close = text.slice(done).search(new RegExp("<\\/" + name + "[\\s\\/>]", "i"));
    var end = close < 0 ? text.length : done + close;
    var content = text.slice(done, end);
    out += name === "style" ? style(content) : name === "script" ? script(content) : content;
    done = pattern.lastIndex = end;
  }
  return out + text.slice(done);
}

function tagText(tag, name, map) {
  return tag.replace(/([\s"'\/])([a-z:-]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)/gi, function (all, space, attribute, equals, value) {
    var kind = kindOf(name, attribute.toLowerCase());
    if (!kind) return all;
    var quote = /^["']/.test(value) ? value.charAt(0) : "";
    var written = quote ? value.slice(1, -1) : value;
    if (kind !== "code" && !/javascript:/i.test(written)) return space + attribute + equals + quote + map(kind, written) + quote;
    var plain = unescaped(written), mapped = map(kind, plain);
    if (mapped === plain) return all;
    return space + attribute + equals + "\"" + mapped.replace(/&/g, "&amp;").replace(/"/g, "&quot;") + "\"";
  });
}

// Replace the character references in an attribute's code.
function unescaped(text) {
  if (text.indexOf("&") < 0) return text;
  var area = native.create.call(doc, "textarea"), plain = text.replace(/</g, "&lt;");
  try {
    native.fill.call(area, trusted("HTML", plain) || plain);
    return area.value;
  } catch (e) {
    return text.replace(/&quot;/g, "\"").replace(/&(?:#39|apos);/g, "'").replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
  }
}
