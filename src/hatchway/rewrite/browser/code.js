// Rewrites scripts that are texts (of `eval`, `new Function`, timers, elements, event handlers), in the same way as
// javascript.py, jslexer.py and jscontext.py rewrite files. One table of cases tests both (tests/rewriting.py).

var SPACE = "(?:\\s|\\/\\*[^]*?\\*\\/|\\/\\/[^\\n\\r]*[\\n\\r])*";
var PLAIN_STRINGS = "\"[^\"\\\\\\n]*(?:\\\\[^][^\"\\\\\\n]*)*\"|'[^'\\\\\\n]*(?:\\\\[^][^'\\\\\\n]*)*'";
var MARK = new RegExp(
  PLAIN_STRINGS + "|`[^`\\\\$]*`|\\/\\/[^\\n\\r\\u2028\\u2029]*|\\/\\*[^]*?\\*\\/|[\"'`\\/{}]" +
  "|(?<![\\w$#@\\\\\\x80-\\uffff])(?:(?:location|pathname|href|import|from|eval)(?![\\w$\\\\\\x80-\\uffff])" +
  "|(?:" + INDEXED.replace(/ /g, "|") + ")(?=\\[))", "g");
var CHANGEABLE = new RegExp("location|pathname|href|\\b(?:import|from|eval)\\b|(?:" + INDEXED.replace(/ /g, "|") + ")\\[");
var PIECE = /[^`\\$]*(?:(?:\\[^]|\$(?!\{))[^`\\$]*)*/y;
var REGEX = /\/(?![*\/])(?:[^\/\\\[\n\r]|\\.|\[(?:[^\]\\\n\r]|\\.)*\])+\/[a-z]*/iy;
var SCAN = new RegExp(
  PLAIN_STRINGS + "|`(?:[^`\\\\]|\\\\[^])*`|\\/\\/[^\\n]*|\\/\\*[^]*?\\*\\/" +
  "|(?<=[=(,:;!&|?{}\\[])\\/(?![*\\/])(?:[^\\/\\\\\\[\\n\\r]|\\\\.|\\[(?:[^\\]\\\\\\n\\r]|\\\\.)*\\])+\\/|[()\\[\\]{};]" +
  "|(?<![\\w$.\\x80-\\uffff])(?:var|let|const|return|throw)(?![\\w$\\x80-\\uffff])", "g");

function after(pattern) { return new RegExp("^" + SPACE + "(?:" + pattern + ")"); }
function words(text) { return new RegExp("^(?:" + text.replace(/ /g, "|") + ")$"); }

var OPERATOR = words(OPERATORS);
var KEYWORD = words(KEYWORDS);
var NAME_MAKER = words(MAKES_A_NAME);
var NO_VALUE = words(NO_VALUE_OF);
var WRAPPED = words(WRAPPED_MEMBERS);
var READ = words(READ_MEMBERS);
var ASSIGNED = words(ASSIGNABLE);
var LAST_WORD = /[\w$\x80-\uffff]+$/;
var CONDITION = /(?:^|[^\w$.])(?:if|while|for|switch|with|for\s+await)\s*$/;
var FOR = /(?:^|[^\w$.])for(?:\s+await)?\s*\(\s*$/;
var FUNCTION = /(?:^|[^\w$.])(?:function(?:\s*\*)?(?:\s*[\w$]+)?|catch)\s*$/;
var BEFORE_AN_OBJECT = /(?:[(,=\[?&|+:!]|(?:^|[^\w$.])(?:return|typeof|in|of|void|throw|yield|await|case|default))\s*$/;
var NAMES_OF_A_MODULE = /(?:^|[^\w$.])(?:import|export)\s*(?:type\s+)?(?:[\w$]+\s*,\s*)?$/;
var MEMBER = after("(\\?\\.|\\.(?!\\.))\\s*([\\w$]+)");
var INDEX = after("(\\?\\.\\s*)?\\[");
var CALL = after("(?:\\?\\.\\s*)?[(`]");
var ASSIGNMENT = after("=(?![=>])");
var WRITTEN = after("(?:(?:[-+*\\/%&|^]|\\*\\*|<<|>>>?|&&|\\|\\||\\?\\?)?=(?![=>])|\\+\\+|--)");
var COLON = after(":");
var NEXT = after("([,)\\]};])|(?:of|in|as|from)(?![\\w$])|$");
var EACH = after("(?:of|in)(?![\\w$])");
var IN = after("(?:in|instanceof)(?![\\w$])");
var AS = after("(?:as|from)(?![\\w$])");
var ARROW = after("=>");
var INNER_PATTERN = after(":" + SPACE + "\\{");
var ALIAS = after(":" + SPACE + "[A-Za-z_$][\\w$]*" + SPACE + "(?=[,}=])");
var BRACKETED = /\[((?:[^\[\]"'`\/{}]|"[^"\\\n]*"|'[^'\\\n]*'|\[(?:[^\[\]"'`\/{}]|"[^"\\\n]*"|'[^'\\\n]*')*\])+)\]/y;
var SPECIFIER = /^(\s*)(?:"([^"\\\n\r]*)"|'([^'\\\n\r]*)')/;
var DESTRUCTURED = /^\s*(?::\s*[\w$]+\s*)?(?:=[^=,{}()"'`\/]*)?(?:,[^{}()"'`\/;]*)?\}\s*=(?![=>])\s*([A-Za-z_$][\w$]*(?:\s*\.\s*[A-Za-z_$][\w$]*)*)(?=[^\S\n\r]*([;,)}\n\r]|$))/;
var ADDRESS = "globalThis.__hatchway(";

function roleAhead(ahead) {
  var depth = 0, closed = "", found;
  SCAN.lastIndex = 0;
  while ((found = SCAN.exec(ahead))) {
    var token = found[0], rest;
    if (/^[(\[{]$/.test(token)) depth++;
    else if (/^[)\]}]$/.test(token)) {
      if (depth) { depth--; continue; }
      closed += token;
      rest = ahead.slice(SCAN.lastIndex);
      if (token === ")") {
        if (ARROW.test(rest)) return ["parameters", closed];
        if (after("\\{").test(rest)) return ["block", closed];
        return [ASSIGNMENT.test(rest) ? "pattern" : "read", closed];
      }
      if (ASSIGNMENT.test(rest) || EACH.test(rest)) return ["pattern", closed];
      if (!after("[,)\\]}]").test(rest)) return [rest ? "read" : "unknown", closed];
    } else if (token === ";" && !depth) return ["statement", closed];
  }
  return ["unknown", closed];
}

// Return the constructs that are open at the end of a text.
function surroundings(text) {
  var stack = [], flags = [{}], found;
  SCAN.lastIndex = 0;
  while ((found = SCAN.exec(text))) {
    var token = found[0];
    if (/^[(\[{]$/.test(token)) {
      stack.push([token, text.slice(Math.max(0, found.index - 64), found.index).replace(/\s+$/, "")]);
      flags.push({});
    } else if (/^[)\]}]$/.test(token)) {
      if (stack.length) { stack.pop(); flags.pop(); } else flags = [{}];
      if (token === "}" && flags[flags.length - 1].declares && /^\s*[\n\r]\s*[\w$]/.test(text.slice(SCAN.lastIndex))) {
        flags[flags.length - 1] = { statement: true };
      }
    } else if (token === ";") flags[flags.length - 1] = { statement: true };
    else if (/^(?:var|let|const)$/.test(token)) flags[flags.length - 1] = { statement: true, declares: true };
    else if (/^(?:return|throw)$/.test(token)) flags[flags.length - 1] = { statement: true, returns: true };
  }
  var flag = flags[flags.length - 1];
  function opener(depth) { return stack[stack.length - depth] || ["", ""]; }
  var around = opener(1);
  return {
    opener: around,
    declares: flag.declares,
    returns: flag.returns,
    isCondition: function (depth) { return CONDITION.test(opener(depth)[1]); },
    isObject: around[0] === "{" && !flag.statement && !/=>$/.test(around[1]) && BEFORE_AN_OBJECT.test(around[1]) &&
      !/(?:^|[^\w$.])class(?![\w$])[^{}()]*$/.test(around[1]),
    namesAModule: around[0] === "{" && NAMES_OF_A_MODULE.test(around[1]),
  };
}

// Rewrite a script like `Lexer` and `JavaScriptRewriter` do, and return it.
function code(text) {
  if (!CHANGEABLE.test(text)) return text;
  // put: the offset up to which the text is in `out`. at: the offset up to which it was read. begun: where the code
  // around `at` begins. kept: the end of the code before `begun`.
  var out = "", put = 0, at = 0, begun = 0, kept = "", braces = [], resumed = [], later = [];

  function codeBefore(end, limit) { return text.slice(Math.max(begun, end - limit), end); }
  function significant(end) { return codeBefore(end, 1024).replace(/\s+$/, "") || kept; }
  function passed(end, what) {
    at = begun = end;
    if (what) kept = what;
    resumed.push(end);
  }
  function replace(start, end, by) {
    out += text.slice(put, start) + by;
    put = end;
  }
  function wrap(start, end, more) {
    replace(start, end, ADDRESS + text.slice(start, end) + ")" + (more || ""));
    at = Math.max(at, end);
  }
  function around(position) {
    var floor = position - 1024, i = resumed.length;
    while (i && resumed[i - 1] >= floor) i--;
    return surroundings(text.slice(i < resumed.length && resumed[i] <= position ? resumed[i] : Math.max(0, floor), position));
  }

  // Return the beginning of the chain of names that ends at `end`; -1 when no chain there may be changed.
  function chainOf(end) {
    var floor = Math.max(begun, put, end - 160), piece = text.slice(floor, end), first = -1, rest = piece, found;
    while ((found = /[A-Za-z_$][\w$]*$/.exec(rest))) {
      first = found.index;
      var joined = /(?:\?\.|(?<!\.)\.)\s*$/.exec(rest.slice(0, first));
      if (!joined) break;
      rest = rest.slice(0, joined.index).replace(/\s+$/, "");
    }
    if (first < 0) return -1;
    var position = floor + first, before = significant(position);
    if (position === floor && floor !== begun && floor !== 0 && floor >= end - 160) return -1;
    if (/[#@\\\x80-\uffff]$|\+\+$|--$/.test(before) || (/\.$/.test(before) && !/\.\.\.$/.test(before))) return -1;
    if (KEYWORD.test(/^[\w$]+/.exec(text.slice(position, end))[0])) return -1;
    var previous = LAST_WORD.exec(before);
    return previous && NO_VALUE.test(previous[0]) ? -1 : position;
  }
  function rootOf(chain, end) { return text.slice(chain, end).split(/[\s.?]/)[0]; }
  function isRead(chain, ahead) {
    if (EACH.test(ahead)) return !FOR.test(codeBefore(chain, 160));
    var last = significant(chain).slice(-1);
    return !NEXT.test(ahead) || !/[(\[{,:.]/.test(last) || roleAhead(ahead)[0] !== "pattern";
  }

  // Append `__hatchwaySelf` to `f().location`: this property is the location as the application must see it.
  function ask(done, ahead, member, index) {
    var end;
    if (member) {
      if (!READ.test(member[2]) || WRITTEN.test(ahead.slice(member[0].length))) return;
      end = done + member[0].length - /(?:\?\.|\.)\s*[\w$]+$/.exec(member[0])[0].length;
      if (member[1] === "?.") replace(end, end + 2, "?.__hatchwaySelf.");
      else replace(end, end, ".__hatchwaySelf");
    } else if (index) {
      end = done + index[0].length - 1 - (index[1] || "").length;
      if (index[1]) replace(end, end + index[1].length, "?.__hatchwaySelf");
      else replace(end, end, ".__hatchwaySelf");
    } else if (!EACH.test(ahead) && !/pattern|parameters/.test(roleAhead(ahead)[0])) {
      replace(done, done, "?.__hatchwaySelf");
    }
    at = Math.max(at, done);
  }
  function hasABase(start) {
    var piece = codeBefore(start, 160).replace(/\s+$/, "").replace(/(?:\?\.|(?<!\.)\.)\s*$/, "").replace(/\s+$/, ""), found;
    var fromKept = !piece;
    piece = piece || kept;
    while ((found = /(?:\?\.|(?<!\.)\.)\s*#?[\w$\x80-\uffff]+$/.exec(piece))) {
      piece = piece.slice(0, found.index).replace(/\s+$/, "");
      if (piece) continue;
      if (fromKept) return false; // only member names, without an object before them
      piece = kept;
      fromKept = true;
    }
    var word = LAST_WORD.exec(piece);
    return word ? fromKept && !KEYWORD.test(word[0]) : /[)\]'"]$/.test(piece);
  }

  function property(start, end, done, ahead) {
    var chain = chainOf(end);
    if (CALL.test(ahead)) return;
    if (WRITTEN.test(ahead)) {
      if (chain >= 0 && ASSIGNED.test(rootOf(chain, end)) && ASSIGNMENT.test(ahead)) wrap(chain, done, ".href");
      return;
    }
    var member = MEMBER.exec(ahead), index = member ? null : INDEX.exec(ahead);
    if (chain < 0) {
      if (hasABase(start)) ask(done, ahead, member, index);
    } else if (member || index) {
      if (!index && !WRAPPED.test(member[2])) return;
      if (text.slice(chain, start).indexOf("?") < 0 || (index ? index[1] : member[1] === "?.")) wrap(chain, done);
      else ask(done, ahead, member, index);
    } else if (isRead(chain, ahead)) wrap(chain, done);
  }

  function patternKey(start, end) {
    var ahead = text.slice(end, end + 960), inner = INNER_PATTERN.exec(ahead), role = roleAhead(ahead), closed = role[1];
    if (closed.charAt(0) !== "}" || !/block|pattern|parameters/.test(role[0])) return;
    if (role[0] === "block" && around(start).isCondition(closed.length)) return;
    if (inner) {
      var braces = /[{}]|["'`]/g, depth = 1, found;
      braces.lastIndex = inner[0].length;
      while (depth && (found = braces.exec(ahead))) {
        if (/["'`]/.test(found[0])) return;
        depth += found[0] === "{" ? 1 : -1;
      }
      if (depth) return;
      replace(end + inner[0].length - 1, end + inner[0].length - 1, "{__hatchwaySelf:");
      at = end + found.index + 1;
      replace(at, at, "}");
      return;
    }
    var alias = ALIAS.exec(ahead);
    if (alias && ahead.slice(0, ahead.indexOf("}", alias[0].length)).indexOf("...") < 0) replace(start, end, "__hatchwayLocation");
  }

  function isValue(start, end, ahead, last, piece) {
    var following = NEXT.exec(ahead), space = /\s*$/.exec(piece)[0];
    if (AS.test(ahead) || ARROW.test(ahead)) return false;
    if (!last || /[;}]/.test(last) || (last === ")" && space.indexOf("\n") < 0)) {
      if (following) return !last || IN.test(ahead);
      return last !== ")" && ahead.charAt(0) !== "\n" && (!/^[^\S\n\r]*[\w$"'`\x80-\uffff]/.test(ahead) || IN.test(ahead));
    }
    if (!/[(\[{,:.]/.test(last)) return !/[#@\\]/.test(last);
    if (last === "(" && EACH.test(ahead) && FOR.test(piece)) return false;
    if (!following && last !== "{") return true;
    var found = roleAhead(ahead), role = found[0], closed = found[1];
    if (/pattern|parameters/.test(role)) return false;
    if (last === "(" && /read|statement/.test(role)) return true;
    if (/[\[:]/.test(last) && role !== "block") return true;
    var where = around(start);
    if (role === "block" && !where.isCondition(closed.length)) return false;
    if (last === "(") return role === "block" || !FUNCTION.test(where.opener[1]);
    if (/[\[:]/.test(last)) return true;
    if (last === "{" || (/[,.]/.test(last) && closed.charAt(0) === "}")) {
      if (last === ".") return where.isObject || where.opener[0] !== "{";
      if (following && /^[,}]$/.test(following[1]) && where.isObject && !where.namesAModule) {
        replace(start, start, "location:");
        return true;
      }
      return false;
    }
    if (where.declares) return false;
    return where.returns || /[(\[]/.test(where.opener[0]) || Boolean(closed);
  }

  function location(start, end) {
    var piece = codeBefore(start, 160), before = piece.replace(/\s+$/, "") || kept, ahead = text.slice(end, end + 960);
    if (/(?:^|[^.])\.$/.test(before)) return property(start, end, end, ahead);
    if (CALL.test(ahead) || WRITTEN.test(ahead) || /\+\+$|--$/.test(before)) return;
    var last = before.slice(-1), member = MEMBER.exec(ahead), word = LAST_WORD.exec(before);
    if (word && !OPERATOR.test(word[0])) {
      if (NAME_MAKER.test(word[0]) || /\s*$/.exec(piece)[0].indexOf("\n") < 0) return;
      last = ";";
    } else if (word) {
      if (/^(?:new|delete|typeof)$/.test(word[0])) return;
      last = "=";
    }
    if (member) {
      if (WRAPPED.test(member[2])) wrap(start, end);
    } else if (INDEX.test(ahead)) wrap(start, end);
    else if (COLON.test(ahead)) {
      if (/[{,]/.test(last)) patternKey(start, end);
      else if (last && !/[;})]/.test(last)) wrap(start, end);
    } else if (isValue(start, end, ahead, last, piece)) wrap(start, end);
  }

  // Wrap the object whose `.pathname` or `.href` is read or destructured.
  function address(start, end) {
    var piece = codeBefore(start, 160), dot = /(\?\.|(?<!\.)\.)\s*$/.exec(piece);
    if (dot) {
      var objectEnd = start - piece.length + dot.index;
      while (objectEnd > begun && /\s/.test(text.charAt(objectEnd - 1))) objectEnd--;
      if (objectEnd <= put) return;
      var chain = chainOf(objectEnd);
      if (chain >= 0 && (dot[1] === "?." || text.slice(chain, objectEnd).indexOf("?") < 0)) wrap(chain, objectEnd);
      return;
    }
    var ahead = text.slice(end, end + 960), match = DESTRUCTURED.exec(ahead);
    if (!match || KEYWORD.test(match[1].split(".")[0].trim())) return;
    var first = end + match[0].length - match[1].length;
    if (/[\n\r]/.test(match[2]) && /^[.\[(?`+\-*\/=&|<>]/.test(text.slice(first + match[1].length).trim())) return;
    wrap(first, first + match[1].length);
  }

  function computed(start, end) {
    var opening = text.lastIndexOf("[", start), closing = text.indexOf("]", end) + 1;
    if (opening < begun || opening < put) return;
    var base = codeBefore(opening, 160).replace(/\s+$/, ""), nameEnd = opening - /\s*$/.exec(codeBefore(opening, 160))[0].length;
    var optional = /\?\.$/.test(base);
    base = (optional ? base.slice(0, -2).replace(/\s+$/, "") : base) || kept;
    var word = LAST_WORD.exec(base);
    if (/[{,]$/.test(base) && !optional) {
      if (COLON.test(text.slice(closing, closing + 960))) patternKey(opening, closing);
      return;
    }
    if (word ? OPERATOR.test(word[0]) : !/[)\]"]$/.test(base)) return;
    var ahead = text.slice(closing, closing + 960);
    if (CALL.test(ahead) || WRITTEN.test(ahead)) return;
    var member = MEMBER.exec(ahead), index = member ? null : INDEX.exec(ahead), chain = optional || !word ? -1 : chainOf(nameEnd);
    if (chain < 0 || text.slice(chain, opening).indexOf("?") >= 0) ask(closing, ahead, member, index);
    else if (member || index || isRead(chain, ahead)) wrap(chain, closing);
  }

  function lookup(start, end) {
    BRACKETED.lastIndex = end;
    var found = BRACKETED.exec(text);
    if (!found || /^\s*(?:[0-9]+|"(?!location")[^"\\]*"|'(?!location')[^'\\]*')\s*$/.test(found[1])) return;
    var chain = chainOf(end), done = end + found[0].length, ahead = text.slice(done, done + 960);
    if (chain < 0 || text.slice(chain, end).indexOf("?") >= 0 || CALL.test(ahead) || WRITTEN.test(ahead)) return;
    if (MEMBER.test(ahead) || INDEX.test(ahead) || isRead(chain, ahead)) wrap(chain, done);
  }

  function specifier(end) {
    var match = SPECIFIER.exec(text.slice(end, end + 960));
    if (!match) return false;
    var value = match[2] === undefined ? match[3] : match[2], mapped = addText(value), first = end + match[1].length + 1;
    if (mapped !== value) replace(first, first + value.length, mapped);
    passed(end + match[0].length, '"');
    return true;
  }

  function importing(start, end) {
    var before = significant(start), ahead = text.slice(end, end + 960);
    if (/\.$/.test(before) && !/\.\.\.$/.test(before)) return;
    var open = /^\s*\(/.exec(ahead);
    if (!open) {
      var meta = /^\s*\.\s*meta(?![\w$])(?=\s*(?:\.\s*(?:url|resolve)(?![\w$])|[;,)\]}\[\n]|\s*$))/.exec(ahead);
      if (!meta) return specifier(end);
      at = end + meta[0].length;
      return replace(start, at, "globalThis.__hatchwayMeta(import.meta)");
    }
    var inside = open[0].length, literal = SPECIFIER.exec(ahead.slice(inside));
    if (literal && /^\s*[,)]/.test(ahead.slice(inside + literal[0].length))) return specifier(end + inside);
    var found, depth = 1, brackets = /[()]/g;
    brackets.lastIndex = inside;
    while (depth && (found = brackets.exec(ahead))) depth += found[0] === "(" ? 1 : -1;
    if (!depth) {
      var between = ahead.slice(inside, found.index);
      if (!between.trim() || /\b(?:with|assert)\s*:/.test(between) || /^\s*\{/.test(ahead.slice(found.index + 1))) return;
    }
    replace(start, end + inside, "globalThis.__hatchwayImport(function(u){return import(u)},");
  }

  function evaluation(start, end) {
    var ahead = text.slice(end, end + 960), open = /^(?:\s*\))?\s*\(/.exec(ahead), before = significant(start);
    if (!open || !/(?:^|[^\w$.#@\\\x80-\uffff]|(?:^|[^\w$.])(?:window|self|globalThis)\s*\.|(?:^|[^\w$.])(?:return|await|yield|void|typeof|case|do|else|in|of))$/.test(before)) return;
    if (open[0].indexOf(")") >= 0 && !/,$/.test(before)) return;
    var depth = 1, found, first = end + open[0].length;
    SCAN.lastIndex = open[0].length;
    while (depth && (found = SCAN.exec(ahead))) depth += /^[(\[{]$/.test(found[0]) ? 1 : /^[)\]}]$/.test(found[0]) ? -1 : 0;
    if (depth) return;
    var close = end + found.index;
    if (!text.slice(first, close).trim() || /^\s*(?:\{|=>)/.test(text.slice(close + 1))) return;
    replace(first, first, "globalThis.__hatchwayCode(");
    later.push(close);
  }

  function inTemplate() {
    PIECE.lastIndex = at;
    PIECE.test(text);
    at = PIECE.lastIndex;
    if (text.charAt(at) === "`") return passed(at + 1, '"');
    braces.push(0);
    passed(at + 2, "+");
  }

  function slash(start) {
    var last = significant(start), regex;
    at = start + 1;
    REGEX.lastIndex = start;
    regex = REGEX.test(text) ? REGEX.lastIndex : 0;
    if (!regex || /[\]"']$/.test(last) || /\+\+$|--$/.test(last)) return;
    var word = LAST_WORD.exec(last);
    if (word && (!OPERATOR.test(word[0]) || /\.\s*$/.test(last.slice(0, -word[0].length)))) return;
    if (/\}$/.test(last) && /^\.[A-Za-z]/.test(text.slice(regex))) return;
    if (/\)$/.test(last) && !closesACondition(last)) return;
    passed(regex, ")");
  }
  function closesACondition(last) {
    for (var depth = 0, i = last.length - 1; i >= 0; i--) {
      if (last.charAt(i) === ")") depth++;
      else if (last.charAt(i) === "(" && !--depth) return /(?:^|[^\w$])(?:if|while|for|with)\s*$/.test(last.slice(0, i));
    }
    return false;
  }

  while (at < text.length) {
    MARK.lastIndex = at;
    var found = MARK.exec(text);
    while (later.length && later[later.length - 1] <= (found ? found.index : text.length)) {
      var close = later.pop();
      if (close >= put) replace(close, close, ")");
    }
    if (!found) break;
    var start = found.index, token = found[0], first = token.charAt(0), end = start + token.length;
    at = end;
    if (token === "location") location(start, end);
    else if (token === "pathname" || token === "href") address(start, end);
    else if (token === "import") importing(start, end);
    else if (token === "from") { if (/["'\s]/.test(text.charAt(end))) specifier(end); }
    else if (token === "eval") evaluation(start, end);
    else if (/^[a-z]/.test(first)) lookup(start, end);
    else if (token === "/") slash(start);
    else if (first === "/") { kept = significant(start).slice(-32); passed(end, ""); }
    else if (token.length > 1) {
      if (/^.location.$/.test(token)) {
        if (/\[$/.test(significant(start)) && /^\s*\]/.test(text.slice(end, end + 16))) computed(start, end);
        else if (/[{,]$/.test(significant(start)) && COLON.test(text.slice(end, end + 960))) patternKey(start, end);
      }
      if (at <= end) passed(end, '"');
    } else if (token === "`") inTemplate();
    else if (token === "}") {
      if (braces.length && !braces[braces.length - 1]--) {
        braces.pop();
        inTemplate();
      }
    } else if (token === "{") { if (braces.length) braces[braces.length - 1]++; }
  }
  return out + text.slice(put);
}
