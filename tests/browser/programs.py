"""Random programs that read the page's address in every way that JavaScript has: a grammar, and nothing that judges.

Each program is the body of a function and gives back a value. It says the same with and without a path prefix, if the
origin is left out. `f` gives its argument back, `k` is "location", `p` is "pathname",
`frame` an empty frame of the page.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

_WINDOWS = [
    "window", "self", "globalThis", "document.defaultView", "window.window", "top", "parent", "frames", "window.self",
    "f(window)", "(0, window)", "[window][0]", "(() => window)()", "window?.self", 'window["self"]', "(window)", "W",
    "Object(window)", "frame.contentWindow.parent", "document?.defaultView", "document.body.ownerDocument.defaultView",
    "new Map([[1, window]]).get(1)", "({window}).window", "(window || 0)", "window[`self`]", "[self].at(0)",
]  # fmt: skip
_TAGS = {
    "a": "href", "area": "href", "img": "src", "form": "action", "script": "src", "link": "href", "iframe": "src",
    "input": "src", "button": "formaction", "source": "src", "video": "poster", "object": "data", "embed": "src",
    "track": "src", "blockquote": "cite", "q": "cite",
}  # fmt: skip
_PROPERTIES = {"formaction": "formAction"}


class Programs:
    """A source of programs. seed: the same seed gives the same ones. sloppy: `with` and `this` may be used."""

    def __init__(self, seed: int, *, sloppy: bool = True) -> None:
        self._random = random.Random(seed)
        self._sloppy = sloppy
        self._depth = 0

    def program(self) -> str:
        """Return the next program."""
        self._depth = 0
        return self._one(
            self._returned, self._returned, self._returned, self._variable, self._loop, self._branch, self._evaluated,
            self._element, self._element, self._document, self._history,
        )()  # fmt: skip

    def _one(self, *of: Any) -> Any:
        return self._random.choice(of)

    def _dot(self) -> str:
        return self._one(".", ".", ".", ".", " . ", "\n  .", " /* c */ .", "// c\n.")

    def _soft(self) -> str:
        return self._one(self._dot, self._dot, lambda: "?.", lambda: " ?. ")()

    def _window(self) -> str:
        if self._sloppy and self._random.random() < 0.05:
            return "(function () { return this })()"
        return self._random.choice(_WINDOWS)

    def _location(self) -> str:
        self._depth += 1
        if self._depth > 4:
            return "location"
        w = self._window
        inner = self._location
        forms: list[Callable[[], str]] = [
            lambda: "location",
            lambda: "location",
            lambda: f"{w()}{self._soft()}location",
            lambda: f"{w()}{self._soft()}location",
            lambda: f"{w()}{self._dot()}document{self._soft()}location",
            lambda: f'{w()}[{self._one(chr(34), chr(39))}location"]'.replace("'location\"", "'location'"),
            lambda: f'{w()}?.["location"]',
            lambda: (
                f"{self._one('window', 'self', 'globalThis', 'document')}"
                f"[{self._one('k', 'f(k)', chr(34) + 'loc' + chr(34) + ' + ' + chr(34) + 'ation' + chr(34))}]"
            ),
            lambda: f'Reflect.get({w()}, "location")',
            lambda: f'Object.getOwnPropertyDescriptor({w()}, "location").get.call(window)',
            lambda: f"({inner()})",
            lambda: f"[{inner()}][0]",
            lambda: f"[1, {inner()}, 2][1]",
            lambda: "({location}).location",
            lambda: "({a: 1, location, b: 2}).location",
            lambda: f"({{l: {inner()}}}).l",
            lambda: f"f({inner()})",
            lambda: f"f({inner()}, 1)",
            lambda: f"((a, b) => b)(1, {inner()})",
            lambda: f"(l => l)({inner()})",
            lambda: f"((a, {{location}}) => location)(0, {w()})",
            lambda: f"(({{location: l}}) => l)({w()})",
            lambda: f"(function ({{location: l}} = {w()}) {{ return l }})()",
            lambda: f"(function (l = {inner()}) {{ return l }})()",
            lambda: f"[...[{inner()}]][0]",
            lambda: f"(1 ? {inner()} : 0)",
            lambda: f"(0 ? 1 : {inner()})",
            lambda: f"({inner()} || 0)",
            lambda: f"(1 && {inner()})",
            lambda: f"(null ?? {inner()})",
            lambda: f"(0, {inner()})",
            lambda: f'new Map([["l", {inner()}]]).get("l")',
            lambda: "Object.assign({}, {location}).location",
            lambda: f"(() => {{ const {{location}} = {w()}; return location }})()",
            lambda: f"(() => {{ const {{location: l}} = {w()}; return l }})()",
            lambda: f"(() => {{ let a = 1, {{location: l}} = {w()}; return a, l }})()",
            lambda: f"(() => {{ let l; ({{location: l}} = {w()}); return l }})()",
            lambda: f"(() => {{ var a, location = {w()}.location; return location }})()",
            lambda: f"(() => {{ let l; [l] = [{inner()}]; return l }})()",
            lambda: f"(() => {{ for (const l of [{inner()}]) return l }})()",
            lambda: f"(() => {{ for (const {{location: l}} of [{w()}]) return l }})()",
            lambda: f"(() => {{ try {{ throw {inner()} }} catch (e) {{ return e }} }})()",
            lambda: f"(() => {{ switch (1) {{ case 1: return {inner()} }} }})()",
            lambda: f"(function* () {{ yield {inner()} }})().next().value",
            lambda: f"Array.of({inner()})[0]",
            lambda: f"(class {{ static l = {inner()} }}).l",
            lambda: f"new (class {{ l = {inner()}; }})().l",
            lambda: f"new (class {{ get location() {{ return {inner()} }} }})().location",
            lambda: f"new (class {{ constructor(l = {inner()}) {{ this.l = l }} }})().l",
            lambda: f"Promise && {inner()}",
            lambda: f"(g => g`${{{inner()}}}`)((s, l) => l)",
            lambda: (
                'eval("'
                + self._one(
                    "location", "window.location", "self?.location", "top[" + chr(39) + "location" + chr(39) + "]"
                )
                + '")'
            ),
            lambda: f'new Function("w", "return w{self._one(".", "?.")}location")({w()})',
            lambda: f"Reflect.apply(f, null, [{inner()}])",
            lambda: f"[{inner()}].map(l => l)[0]",
            lambda: f"f({inner()} /* c */)",
            lambda: f"Object.values({{l: {inner()}}})[0]",
            lambda: f'{w()}.__lookupGetter__("location").call(window)',
        ]
        if self._sloppy:
            forms += [
                lambda: f"(function () {{ with ({w()}) {{ return location }} }})()",
                lambda: f"(function () {{ return arguments[0] }})({inner()})",
            ]
        return self._random.choice(forms)()

    def _read(self) -> str:
        """Return an expression that reads the page's address, or what is derived from it."""
        place = self._location
        forms: list[Callable[[], str]] = [
            lambda: f"{place()}{self._dot()}pathname",
            lambda: f"{place()}{self._dot()}href",
            lambda: f"{place()}{self._soft()}pathname",
            lambda: f"{w()}{self._soft()}location{self._soft()}pathname",
            lambda: f"{w()}{self._soft()}location{self._soft()}href.length",
            lambda: f'{place()}["href"]',
            lambda: f"{place()}[p]",
            lambda: f'{place()}?.["path" + "name"]',
            lambda: f"`${{{place()}}}`",
            lambda: f"`a${{`b${{{place()}}}`}}c`",
            lambda: f'{place()} + ""',
            lambda: f'"" + {place()}',
            lambda: f"String({place()})",
            lambda: f"{place()}.toString()",
            lambda: f"{place()}.valueOf().href",
            lambda: f"JSON.stringify({place()})",
            lambda: f"JSON.stringify({{...{place()}}})",
            lambda: f"JSON.stringify(Object.assign({{}}, {place()}))",
            lambda: f"Object.entries({place()}).map(([k, v]) => typeof v == 'string' ? k + v : k).join()",
            lambda: f"Object.keys({place()}).join()",
            lambda: f"Reflect.ownKeys({place()}).map(String).join()",
            lambda: f"(({{pathname, href}}) => pathname + href)({place()})",
            lambda: f"(({{pathname: a, ...r}}) => [a, r.href])({place()})",
            lambda: f"(({{location: {{pathname}}}}) => pathname)({w()})",
            lambda: f"(({{location: {{href: h = 1, pathname}}, document: d}}) => [h, pathname])({w()})",
            lambda: f"(function ({{document: {{location: {{pathname: q}}}}}} = {w()}) {{ return q }})()",
            lambda: f'(({{["location"]: m}}) => m.pathname)({w()})',
            lambda: f"(({{location, document}}) => location.pathname)({w()})",
            lambda: f'new URL("x", {place()}).href',
            lambda: f"new URL({place()}).pathname",
            lambda: f'URL.parse("../y", {place()}).pathname',
            lambda: f"new Request({place()}).url",
            lambda: f"decodeURI({place()})",
            lambda: f"encodeURIComponent({place()})",
            lambda: f'{place()}.href.split("/").length',
            lambda: f"[{place()}].join()",
            lambda: f"[{place()}, 1] + ''",
            lambda: f"{place()} instanceof Location",
            lambda: f"{place()} === {place()}",
            lambda: f"Object.is({place()}, location)",
            lambda: f"{place()} == document.URL",
            lambda: f"{place()}.href === {w()}.document.URL",
            lambda: f'{place()}.pathname == "/deep/er/"',
            lambda: f"Object.prototype.toString.call({place()})",
            lambda: f'Reflect.get({place()}, "pathname")',
            lambda: f'Object.getOwnPropertyDescriptor({place()}, "pathname").get.call(location)',
            lambda: f'"pathname" in {place()}',
            lambda: f"/deep/.exec({place()}).index",
            lambda: f"{place()}.search + {place()}.hash",
            lambda: f"typeof {place()}",
            lambda: f"!{place()}",
            lambda: f"{place()}.pathname ?? 0",
            lambda: f"{place()}.constructor.name",
            lambda: f"(r => {{ for (const k in {place()}) r.push(k); return r }})([])",
            lambda: (
                f"new Function('return "
                f"{self._one('location', 'window?.location', 'self.location', 'document?.defaultView?.location')}"
                f"{self._one('.', '?.')}pathname')()"
            ),
            lambda: (
                f"eval('{self._one('', '(', 'a = ')}"
                f"{self._one('location.href', 'window?.location.pathname', 'String(location)')}'.replace(/^\\((.*)/, "
                f"'($1)'))"
                if self._sloppy
                else "1"
            ),
            lambda: "document.URL + document.documentURI + document.baseURI + document.body.baseURI",
            lambda: "document.referrer",
            lambda: "navigation.currentEntry.url",
            lambda: "performance.getEntriesByType('navigation')[0].name.split('#')[0]",
            lambda: "JSON.stringify([performance.getEntriesByType('navigation')[0].toJSON().name.split('#')[0]])",
            lambda: "new HashChangeEvent('x', {oldURL: location.href, newURL: document.URL}).newURL",
            lambda: "frame.contentWindow.parent.location.pathname === location.pathname",
            lambda: "frame.contentDocument.baseURI",
            lambda: "frames[0].location.href",
            lambda: "frames[0].parent.location.href",
            lambda: "frames[0].top?.location.pathname",
        ]
        w = self._window
        if self._sloppy:
            forms.append(lambda: f"(function () {{ with ({place()}) {{ return pathname + href }} }})()")
        return self._random.choice(forms)()

    def _value(self) -> str:
        read = self._read()
        return self._one(
            lambda: read, lambda: read, lambda: f"({read})", lambda: f"[{read}, {self._read()}]",
            lambda: f"({read}, {self._read()})", lambda: f"{{}} && {read}" if not read.startswith("{") else read,
            lambda: f"(() => {read})()" if not read.startswith("{") else read, lambda: f"f({read})",
            lambda: f"{{a: {read}}}.a" if False else f"({{a: {read}}}).a",
        )()  # fmt: skip

    def _returned(self) -> str:
        return f"return {self._value()}"

    def _variable(self) -> str:
        kind = self._one("const", "let", "var")
        end = self._one(";", "\n")
        name = self._one("l", "$", "a1", "that")
        return self._one(
            f"{kind} {name} = {self._location()}{end} return {name}.pathname",
            f"{kind} {name} = {self._location()}, other = 1{end} return [`${{{name}}}`, other]",
            f"{kind} {{pathname, href: {name}}} = {self._location()}{end} return pathname + {name}",
            f"{kind} {{location: {{pathname: {name}}}}} = {self._window()}{end} return {name}",
            f"{kind} {{location: {name}, document: d}} = {self._window()}{end} return {name} + ''",
            f"{kind} {name} = {self._window()}{end} return {name}.location.pathname + {name}?.location.href",
            f"{kind} {name} = {self._value()}{end} return {name}",
            f"let {name}; {name} = {self._location()}{end} return String({name})",
            f"{kind} o = {{location: {self._location()}, x: {{location}}}}{end} return o.location.href + o.x.location",
            f"{kind} {name} = () => {self._location()}{end} return {name}().pathname",
            f"function {name}(location) {{ return location }}{end} return {name}({self._location()}).href",
            f"{kind} location = {self._window()}.location{end} return location.pathname + location",
            f"{kind} {name} = {{location: 1}}{end} {name}.location = 2{end} return {name}.location + "
            f"JSON.stringify({name})",
            f"{kind} {{location: {name}, ...rest}} = {{location: 'x', y: 1}}{end} return [{name}, "
            f"JSON.stringify(rest)]",
            f"{kind} {name} = null{end} return [{name}?.location.pathname, {name}?.location, {name}?.location?.href]",
            f"{kind} {name} = {{location: null}}{end} return [{name}.location, {name}.location?.pathname]",
            f"{kind} {name} = Object.assign(Object.create(null), {{location: 'x'}}){end} return [{name}.location, "
            f"f({name}).location, {name}['location']]",
            f"{kind} {name} = [1]{end} [{name}.location, {name}[0]] = [3, 4]{end} return [{name}.location, {name}[0]]",
        )

    def _loop(self) -> str:
        return self._one(
            f"const r = []; for (const k in {self._location()}) r.push(k); return r",
            f"const r = []; for (const [k, v] of Object.entries({self._location()})) if (typeof v == 'string') "
            f"r.push(k + v); return r",
            f"let r = ''; for (let l = {self._location()}, i = 0; i < 1; i++) r += l.pathname; return r",
            f"let r = ''; for (const l of [{self._location()}, {self._location()}]) r += l; return r",
            f"let r = 0; while ({self._location()}.pathname == '/deep/er/' && r < 1) r++; return r",
            f"let r = ''; do r += {self._location()}; while (0)\nreturn r",
            f"return [{self._location()}].map(({{pathname}}) => pathname)[0]",
        )

    def _branch(self) -> str:
        return self._one(
            f"if ({self._location()}.pathname == '/deep/er/') return 1; else return {self._value()}",
            f"if ({self._location()} == document.URL) {{ return {self._value()} }} return 2",
            f"switch ({self._location()}.pathname) {{ case '/deep/er/': return 1; default: return 2 }}",
            f"switch (true) {{ case {self._location()} === location: return 1; default: return 2 }}",
            f"return {self._location()}.pathname.startsWith('/deep') ? {self._value()} : 0",
            f"try {{ return {self._value()} }} finally {{ f({self._location()}) }}",
            f"label: {{ if ({self._location()}) break label; return 1 }} return {self._value()}",
        )

    def _evaluated(self) -> str:
        text = self._returned().replace("\\", "\\\\").replace("`", "\\`").replace("${", "\\${")
        if "eval(" in text or "Function(" in text:
            return self._returned()
        return self._one(
            f"return new Function('W', 'f', 'k', 'p', 'frame', `{text}`)(W, f, k, p, frame)",
            f"return eval(`(() => {{ {text} }})()`)",
            f"return (0, eval)(`(function (W, f, k, p, frame) {{ {text} }})`)(W, f, k, p, frame)",
        )

    def _element(self) -> str:
        tag = self._random.choice(list(_TAGS))
        attribute = _TAGS[tag]
        name = _PROPERTIES.get(attribute, attribute)
        url = self._one(
            "/x/y?z=1", "/", "../up", "rel", "//other.example/x", "https://other.example/", "#h", "?q", "/a b", ""
        )
        made = self._one(
            f"const e = document.createElement('{tag}'); e.{name} = '{url}';",
            f"const e = document.createElement('{tag}'); e.setAttribute('{attribute}', '{url}');",
            f"const d = document.createElement('div'); d.innerHTML = '<{tag} {attribute}=\"{url}\"></{tag}>'; const "
            f"e = d.firstChild;",
            f"const d = document.createElement('template'); d.innerHTML = '<{tag} {attribute}=\"{url}\">'; const e = "
            f"d.content.firstChild;",
            f"const e = document.createElement('{tag}'), n = document.createAttribute('{attribute}'); n.value = "
            f"'{url}'; e.setAttributeNode(n);",
            f"const d = document.createElement('div'); d.insertAdjacentHTML('beforeend', '<{tag} "
            f'{attribute}="{url}">\'); const e = d.firstChild;',
            f"const e = document.createElement('{tag}').cloneNode(); e.setAttribute('{attribute.upper()}', '{url}');",
        )
        read = self._one(
            f"e.{name}", f"e.getAttribute('{attribute}')", f"e.attributes.{attribute}.value", "e.outerHTML",
            f"e.getAttributeNode('{attribute}').nodeValue", f"e.cloneNode().{name}", f"e?.['{name}']",
            "e.attributes[0].textContent", f"e.matches('[{attribute}=\"{url}\"]')", 
            "new XMLSerializer().serializeToString(e)",
            "(e.pathname || '') + (e.toString === Object.prototype.toString ? '' : e)"
            if tag in ("a", "area") else f"e.{name}",
            "[...e.attributes].map(a => a.name + a.value).join()", f"(({{{name}}}) => {name})(e)",
        )  # fmt: skip
        return f"{made} return {read}"

    def _document(self) -> str:
        return self._one(
            "const s = document.createElement('style'); s.textContent = 'a{background:url(/x.png)}'; return "
            "s.textContent + s.outerHTML",
            "const s = document.createElement('style'); s.append('a{background:url(\"/x.png\")}'); return "
            "s.innerHTML + s.firstChild.data",
            "const s = new CSSStyleSheet(); s.replaceSync('a{background:url(/x.png)}'); return s.cssRules[0].cssText",
            "const s = new CSSStyleSheet(); s.insertRule('a{background:url(/x.png)}'); return "
            "s.cssRules[0].style.backgroundImage",
            "const e = document.createElement('p'); e.style.cssText = 'background:url(/x.png)'; return "
            "e.style.cssText + e.outerHTML",
            "const e = document.createElement('p'); e.setAttribute('style', 'background:url(/x.png)'); return "
            "e.getAttribute('style')",
            "const e = document.createElement('p'); e.style.setProperty('background-image', 'url(/x.png)'); return "
            "e.style.getPropertyValue('background-image')",
            "const e = document.createElement('img'); e.srcset = '/a.png 1x, /b.png 2x'; return e.srcset + e.outerHTML",
            "const e = document.createElement('p'); e.setAttribute('onclick', 'x = location.pathname'); return "
            "e.getAttribute('onclick') + e.outerHTML",
            "const e = document.createElement('p'); e.setAttribute('onclick', 'this.x = location.pathname + "
            "String(window?.location)'); e.click(); return e.x",
            "const d = document.createElement('div'); d.innerHTML = '<p onclick=\"this.x = location + "
            "&quot;&quot;\">'; d.firstChild.click(); return d.firstChild.x",
            "const u = document.createElementNS('http://www.w3.org/2000/svg', 'use'); u.setAttribute('href', "
            "'/s.svg#a'); return u.href.baseVal + u.outerHTML",
            "const f = document.createElement('iframe'); f.srcdoc = '<a href=\"/x\">y</a>'; return f.srcdoc + "
            "f.getAttribute('srcdoc')",
            "const s = document.createElement('script'); s.text = 'x = location.pathname'; return s.text + "
            "s.textContent + s.outerHTML",
            "const s = document.createElement('script'); s.textContent = 'window.ran = window?.location.pathname'; "
            "document.head.append(s); s.remove(); return window.ran",
            "return document.scripts.length + document.head.firstElementChild.localName",
            "return document.head.outerHTML.length + document.documentElement.outerHTML.length",
            "return document.querySelectorAll('script').length",
        )

    def _history(self) -> str:
        return self._one(
            f"history.replaceState(null, '', '/p/q?r'); try {{ return [{self._location()}.pathname, document.URL] }} "
            f"finally {{ history.replaceState(null, '', '/deep/er/?q=1#h') }}",
            f"history.pushState({{u: {self._location()}.href}}, '', '/p?' + location.pathname); try {{ return "
            f"[String({self._location()}), history.state.u] }} finally {{ history.replaceState(null, '', "
            f"'/deep/er/?q=1#h') }}",
            f"history.replaceState(null, '', {self._location()}); return location.href",
        )
