"""The script `prefix.js` alone, in real Chromium: every way in which a page uses an address.

Requests without the prefix are not redirected here: an address that the script misses gets a 404.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from hatchway.rewrite.page import PageRewriter
from hatchway.rewrite.prefix import PrefixRewriter
from hatchway.rewrite.urlrules import PrefixRule
from hatchway.rewrite.vocabulary import ANY_URLS, CANDIDATES, LISTS, STYLES, URLS
from tests.browser.behind import Front, Site, proxy_verb, serving
from tests.rewriting import CASES, in_the_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext
    from playwright.sync_api import Page as Tab

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360f8cf500f0003860180a7e85d4f0000000049454e44ae426082"
)
BLANK = "<!DOCTYPE html><html><head><title>x</title></head><body><div id=root></div></body></html>"


def echo(request: Any) -> Any:
    return 200, {"Content-Type": "application/json"}, f'{{"target":"{request.target}","method":"{request.method}"}}'


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with proxy_verb(strays=False) as found:
        yield found


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    pages: dict[str, Any] = {
        "/": BLANK,
        "/deep/er/": BLANK,
        "/echo": echo,
        "/up": echo,
        "/a.png": lambda _: (200, {"Content-Type": "image/png"}, PNG),
        "/x.js": "window.loaded = (window.loaded || 0) + 1;",
        "/module.js": "export const value = 42; export const here = location.pathname;",
        "/worker.js": "onmessage = async e => postMessage(await (await fetch('/echo?w')).text())",
        "/lib.js": "self.lib = 7;",
        "/import-worker.js": "importScripts('/lib.js'); onmessage = () => postMessage(self.lib)",
        "/sse": lambda _: (200, {"Content-Type": "text/event-stream"}, "data: hello\n\n"),
        "/frame": "<!DOCTYPE html><p id=f>framed</p><script>document.title = location.pathname</script>",
        "/form": lambda r: (200, {"Content-Type": "text/html"}, f"<p id=sent>{r.method} {r.target}</p>"),
        "/style.css": "p { color: rgb(1, 2, 3); background: url(/a.png) }",
    }
    site = Site(pages)
    with serving(site):
        yield site


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture
def fresh_tab(context: BrowserContext, front: Front, site: Site) -> Tab:
    """A tab of a new browser context, for tests that leave something behind: cookies, service workers."""
    tab = context.new_page()
    site.seen.clear()
    tab.goto(front.url(site))
    return tab


@pytest.fixture(scope="module")
def shared_tab(browser: Browser) -> Iterator[Tab]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def tab(shared_tab: Tab, front: Front, site: Site) -> Iterator[Tab]:
    """The root page, loaded anew in one tab for all tests: each new tab would start a process of the browser."""
    site.seen.clear()
    shared_tab.goto(front.url(site))
    yield shared_tab
    # The blank page ends all requests of this test. Tests that leave cookies or other tabs must use `fresh_tab`.
    shared_tab.goto("about:blank")
    assert shared_tab.context.pages == [shared_tab]
    assert not shared_tab.context.cookies()


FETCHES = [
    "fetch('/echo?1')",
    "fetch(location.origin + '/echo?1')",
    "fetch(new URL('/echo?1', location.origin))",
    "fetch(new Request('/echo?1'))",
    "fetch('//' + location.host + '/echo?1')",
    "fetch('echo?1')",
    "fetch('../../../../../../../echo?1')",
    "fetch('/x/../../../echo?1')",
    "fetch(document.baseURI + 'echo?1')",
    "fetch(new Request(new Request('/echo?1').url))",
    "fetch(document.URL + 'echo?1')",
]


@pytest.mark.parametrize("call", FETCHES)
def test_fetch(tab: Tab, call: str) -> None:
    found = tab.evaluate(f"{call}.then(r => r.json().then(j => [r.url.slice(location.origin.length), j.target]))")
    assert found == ["/echo?1", "/echo?1"]


def test_xhr(tab: Tab) -> None:
    found = tab.evaluate(
        "new Promise(done => { const x = new XMLHttpRequest(); x.open('POST', '/echo'); x.onload = () =>"
        " done([x.responseURL, x.responseText]); x.send('a') })"
    )
    assert found[0].endswith("/echo") and "/proxy" not in found[0]
    assert '"POST"' in found[1]


@pytest.mark.parametrize(
    "url",
    ["'/ws?a=1'", "'ws://' + location.host + '/ws?a=1'", "new URL('/ws?a=1', location.href.replace('http', 'ws'))"],
)
def test_websocket(tab: Tab, url: str) -> None:
    found = tab.evaluate(
        f"new Promise((done, no) => {{ const w = new WebSocket({url}); w.onopen = () => w.send('hi');"
        " w.onmessage = e => done([e.data, w.url, w instanceof WebSocket, WebSocket.OPEN]); w.onerror = no })"
    )
    assert found[0] == "/ws?a=1 hi"
    assert found[1].endswith("/ws?a=1") and "/proxy" not in found[1]
    assert found[2:] == [True, 1]


def test_a_websocket_to_the_prefix_without_a_slash(tab: Tab, front: Front, site: Site) -> None:
    """An address that ends with `/proxy` is the application's root."""
    found = tab.evaluate(
        "path => new Promise((done, no) => { const w = new WebSocket('ws://' + location.host + path);"
        " w.onopen = () => w.send('hi'); w.onmessage = e => done(e.data); w.onerror = no })",
        front.prefix(site),
    )
    assert found == "/ hi"


def test_a_subclass_of_websocket(tab: Tab) -> None:
    assert tab.evaluate(
        "new Promise(done => { class Mine extends WebSocket { hello() { this.send('x') } }; const w = new Mine('/ws');"
        " w.onopen = () => w.hello(); w.onmessage = e => done(e.data + (w instanceof Mine)) })"
    ) == ("/ws xtrue")


def test_event_source(tab: Tab) -> None:
    assert tab.evaluate(
        "new Promise(done => { const s = new EventSource('/sse'); s.onmessage = e => { s.close(); done(e.data) } })"
    ) == ("hello")


def test_beacon(tab: Tab, site: Site) -> None:
    assert tab.evaluate("navigator.sendBeacon('/up', 'x')")
    tab.wait_for_function("() => fetch('/echo').then(() => true)")
    assert "/up" in site.targets()


@pytest.mark.parametrize("options", ["", ", {type: 'module'}"])
def test_worker(tab: Tab, options: str) -> None:
    found = tab.evaluate(
        f"new Promise((done, no) => {{ const w = new Worker('/worker.js'{options}); w.onerror = no;"
        " w.onmessage = e => done(e.data); w.postMessage(1) })"
    )
    assert '"/echo?w"' in found


def test_import_scripts(tab: Tab) -> None:
    assert (
        tab.evaluate(
            "new Promise(done => { const w = new Worker('/import-worker.js'); w.onmessage = e => done(e.data);"
            " w.postMessage(1) })"
        )
        == 7
    )


@pytest.mark.parametrize("revoked", ["", "URL.revokeObjectURL(u);"])
def test_a_worker_made_from_a_blob(tab: Tab, revoked: str) -> None:
    found = tab.evaluate(
        """new Promise((done, no) => { const u = URL.createObjectURL(new Blob(["importScripts('" + location.origin +
        "/lib.js'); fetch('" + location.origin + "/echo').then(r => r.text()).then(t => postMessage(lib + t))"],
        {type: 'text/javascript'})); const w = new Worker(u); w.onerror = no; w.onmessage = e => done(e.data); """
        + revoked
        + "})"
    )
    assert found.startswith("7") and '"/echo"' in found


def test_shared_worker(tab: Tab, site: Site) -> None:
    site.pages["/shared.js"] = "onconnect = async e => e.ports[0].postMessage(await (await fetch('/echo?s')).text())"
    found = tab.evaluate(
        "new Promise((done, no) => { const w = new SharedWorker('/shared.js'); w.port.onmessage = e => done(e.data) })"
    )
    assert '"/echo?s"' in found


def test_dynamic_import_of_a_computed_address(tab: Tab) -> None:
    """The `import(x)` is in a script from the server, which is rewritten; code in a console would not be."""
    tab.evaluate(
        "new Promise(done => { const s = document.createElement('script'); s.src = '/x.js'; s.onload = done;"
        " document.head.append(s) })"
    )
    assert tab.evaluate("window.loaded") == 1
    assert tab.evaluate("__hatchwayImport(u => import(u), '/module.js').then(m => [m.value, m.here])") == [42, "/"]


def test_history(tab: Tab, front: Front, site: Site) -> None:
    tab.evaluate("history.pushState({a: 1}, '', '/some/where?x#y')")
    assert tab.url == front.url(site, "/some/where?x#y")
    tab.evaluate("history.replaceState(null, '', location.origin + '/other')")
    assert tab.url == front.url(site, "/other")
    tab.evaluate("history.pushState(null, '', location.href)")
    assert tab.url == front.url(site, "/other")
    tab.evaluate("history.pushState(null, '', null)")
    tab.evaluate("history.pushState(null, '', '?q')")
    assert tab.url == front.url(site, "/other?q")


def test_location_has_no_prefix(tab: Tab, front: Front, site: Site) -> None:
    tab.goto(front.url(site, "/deep/er/?q#h"))
    found = tab.evaluate(
        "(l => [l.href, l.pathname, String(l), l.search, l.hash, l.origin, l instanceof Location, document.URL,"
        " document.baseURI])(__hatchway(location))"
    )
    plain = front.origin + "/deep/er/?q#h"
    assert found == [plain, "/deep/er/", plain, "?q", "#h", front.origin, True, plain, plain]
    assert tab.evaluate("[1, 'a', null, undefined].map(__hatchway)") == [1, "a", None, None]
    assert tab.evaluate("(o => __hatchway(o) === o)({pathname: '/x'})")


NAVIGATIONS = [
    "location.href = '/form?1'",
    "location = '/form?1'",
    "location.assign('/form?1')",
    "location.replace('/form?1')",
    "window.location.pathname = '/form'",
    "document.location = '/form?1'",
    "__hatchway(location).href = '/form?1'",
    "__hatchway(location).pathname = '/form'",
    "__hatchway(location).assign('/form?1')",
    "__hatchway(location).replace(new URL('/form?1', location.origin))",
    "window.open('/form?1', '_self')",
    "navigation.navigate('/form?1')",
]


@pytest.mark.parametrize("statement", NAVIGATIONS)
def test_navigation(tab: Tab, statement: str, site: Site) -> None:
    tab.evaluate(f"setTimeout(() => {{ {statement} }})")
    tab.wait_for_selector("#sent")
    assert tab.inner_text("#sent").startswith("GET /form")


@pytest.mark.parametrize(
    "markup",
    [
        "<a id=go href='/form?1'>x</a>",
        "<form action='/form?1' method=post><button id=go>x</button></form>",
        "<form><button id=go formaction='/form?1' formmethod=post>x</button></form>",
        "<form action='/nowhere'><input type=submit id=go formaction='/form?1' formmethod=post></form>",
    ],
)
@pytest.mark.parametrize("how", ["innerHTML = m", "insertAdjacentHTML('beforeend', m)", "append(parsed(m))"])
def test_links_and_forms_that_a_script_makes(tab: Tab, markup: str, how: str) -> None:
    tab.evaluate(
        "m => { const parsed = m => new DOMParser().parseFromString(m, 'text/html').body.firstChild;"
        f" document.getElementById('root').{how} }}",
        markup,
    )
    tab.click("#go")
    tab.wait_for_selector("#sent")
    assert tab.inner_text("#sent").endswith("/form?1")


def test_form_submit_from_a_script(tab: Tab) -> None:
    tab.evaluate(
        "setTimeout(() => { const f = document.createElement('form'); f.setAttribute('action', '/form?z');"
        " f.method = 'post'; document.body.append(f); f.submit() })"
    )
    tab.wait_for_selector("#sent")
    assert tab.inner_text("#sent") == "POST /form?z"


IMAGES = [
    "i.src = '/a.png'",
    "i.setAttribute('src', '/a.png')",
    "i.src = location.origin + '/a.png'",
    "i.srcset = '/a.png 1x, /b.png 2x'",
    "i.setAttribute('srcset', '/a.png 1x')",
]


@pytest.mark.parametrize("statement", IMAGES)
def test_images(tab: Tab, statement: str) -> None:
    loaded = tab.evaluate(
        f"new Promise((done, no) => {{ const i = new Image(); i.onload = () => done(i.currentSrc); i.onerror = no; "
        f"{statement} }})"
    )
    assert loaded.endswith("/a.png") and "/proxy" not in loaded


def test_scripts_read_back_the_values_that_they_have_written(tab: Tab) -> None:
    found = tab.evaluate(
        """(() => { const a = document.createElement('a'); a.href = '/x/y?z'; const i = new Image();
        i.srcset = '/a.png 2x';
        const s = document.createElement('script'); s.setAttribute('src', '/q.js');
        return [a.getAttribute('href'), a.href, a.pathname, String(a), i.srcset, s.src, s.getAttribute('src')] })()"""
    )
    origin = tab.evaluate("location.origin")
    plain = origin + "/x/y?z"
    assert found == ["/x/y?z", plain, "/x/y", plain, "/a.png 2x", origin + "/q.js", "/q.js"]


def test_a_mutation_observer_gets_the_old_value_without_the_prefix(tab: Tab) -> None:
    found = tab.evaluate(
        """new Promise(done => { const a = document.createElement('a'); a.href = '/old';
        new MutationObserver(list => done([list[0].oldValue, a.getAttribute('href')]))
            .observe(a, { attributes: true, attributeOldValue: true });
        a.href = '/new' })"""
    )
    assert found == ["/old", "/new"]


def test_selectors_that_name_an_address(tab: Tab) -> None:
    tab.evaluate(
        "document.getElementById('root').innerHTML = '<a href=/x/y>a</a><a href=/x>b</a><a href=z>c</a><img "
        "src=/a.png>'"
    )
    found = tab.evaluate(
        """['a[href="/x"]', "a[href='/x/y']", 'a[href^="/x"]', 'a[href^=/]', 'img[src="/a.png"]', 'a[href="z"]',
        'a[href$="y"]',
        'p, a[href="/x"]:not([href="/x/y"])'].map(s => [...document.querySelectorAll(s)].map(e =>
        e.textContent).join(''))"""
    )
    assert found == ["b", "a", "ab", "ab", "", "c", "a", "b"]
    assert tab.evaluate("document.querySelector('img').matches('[src=\"/a.png\"]')")
    assert tab.evaluate("document.querySelector('a').firstChild.parentNode.closest('a[href=\"/x/y\"]') !== null")


def test_svg(tab: Tab, site: Site) -> None:
    tab.evaluate(
        """(() => { const n = 'http://www.w3.org/2000/svg'; const s = document.createElementNS(n, 'svg');
        const i = document.createElementNS(n, 'image'); i.setAttributeNS('http://www.w3.org/1999/xlink',
        'xlink:href', '/a.png');
        s.append(i); document.body.append(s) })()"""
    )
    tab.wait_for_function("() => performance.getEntriesByType('resource').some(e => e.name.endsWith('/a.png'))")
    assert "/a.png" in site.targets()


def test_styles(tab: Tab, site: Site) -> None:
    tab.evaluate(
        """(() => { const l = document.createElement('link'); l.rel = 'stylesheet'; l.href = '/style.css';
        document.head.append(l); document.body.innerHTML = '<p>a</p><b style="background:url(/a.png?attr)">b</b>';
        const s = new CSSStyleSheet(); s.replaceSync('i { background: url("/a.png?sheet") }');
        document.adoptedStyleSheets = [s]; const i = document.createElement('i'); i.textContent = 'i';
        document.body.append(i); const u = document.createElement('u'); u.textContent = 'u'; document.body.append(u);
        u.style.setProperty('background', 'url(/a.png?prop)') })()"""
    )
    tab.wait_for_function("() => getComputedStyle(document.querySelector('p')).color === 'rgb(1, 2, 3)'")
    for query in ("attr", "sheet", "prop"):
        tab.wait_for_function(
            f"() => performance.getEntriesByType('resource').some(e => e.name === location.origin + '/a.png?{query}')"
        )
        assert f"/a.png?{query}" in site.targets()


WRITTEN_STYLES = {
    "textContent": "s.textContent = CSS",
    "innerText": "s.innerText = CSS",
    "innerHTML": "s.innerHTML = CSS",
    "a text node": "s.appendChild(document.createTextNode(CSS))",
    "append": "s.append(CSS)",
    "prepend": "s.prepend(document.createTextNode(CSS))",
    "insertAdjacentText": "s.insertAdjacentText('beforeend', CSS)",
    "replaceChildren": "s.replaceChildren(CSS)",
    "in pieces": "s.append(''); s.firstChild.appendData(CSS.slice(0, 12)); s.firstChild.appendData(CSS.slice(12))",
    "afterwards": "s.append('i {}'); document.head.append(s); s.firstChild.data = CSS",
    "nodeValue": "s.append(''); s.firstChild.nodeValue = CSS",
    "markup": "document.head.insertAdjacentHTML('beforeend', '<style>' + CSS + '</style>')",
    "a template": "const t = document.createElement('template'); t.innerHTML = '<style>' + CSS; s = "
    "t.content.firstChild",
    "insertRule": "document.head.append(s); s.sheet.insertRule(CSS)",
    "addRule": "document.head.append(s); s.sheet.addRule('i', CSS.slice(4, -2))",
    "a nested rule": "document.head.append(s); s.sheet.insertRule('@media all {}'); "
    "s.sheet.cssRules[0].insertRule(CSS)",
    "a rule's declaration": "document.head.append(s); s.sheet.insertRule('i {}'); "
    "s.sheet.cssRules[0].style.background = CSS.slice(16, -2)",
    "adoptedStyleSheets": "const c = new CSSStyleSheet(); c.replaceSync(CSS); document.adoptedStyleSheets = [c]",
    "cssText": "i.style.cssText = CSS.slice(4, -2)",
    "setProperty": "i.style.setProperty('background', CSS.slice(16, -2))",
    "a property": "i.style.background = CSS.slice(16, -2)",
    "the attribute": "i.setAttribute('style', CSS.slice(4, -2))",
    "attributeStyleMap": "i.attributeStyleMap.set('background-image', CSS.slice(16, -2))",
    "animate": "i.animate([{backgroundImage: CSS.slice(16, -2)}, {backgroundImage: CSS.slice(16, -2)}], 1e6)",
    "image-set": "s.textContent = CSS.replace('url(', 'image-set(\"').replace(') }', '\" 1x) }')",
}


@pytest.mark.parametrize("how", WRITTEN_STYLES)
def test_styles_that_scripts_write(tab: Tab, site: Site, how: str) -> None:
    tab.evaluate(
        "() => { const CSS = 'i { background: url(/a.png?written) }', i = document.createElement('i'); i.textContent "
        "= 'i';"
        " let s = document.createElement('style'); document.body.append(i); "
        + WRITTEN_STYLES[how]
        + "; if (!s.isConnected && s.firstChild) document.head.append(s) }"
    )
    tab.wait_for_function("() => performance.getEntriesByType('resource').some(e => e.name.endsWith('/a.png?written'))")
    assert "/a.png?written" in site.targets()


def test_frames(tab: Tab) -> None:
    tab.evaluate("(f => { f.src = '/frame'; document.body.append(f) })(document.createElement('iframe'))")
    tab.wait_for_function("() => document.querySelector('iframe').contentDocument.title === '/frame'")


def test_an_empty_frame_that_a_script_fills(tab: Tab) -> None:
    found = tab.evaluate(
        """new Promise(done => { const f = document.createElement('iframe'); document.body.append(f);
        window.done = done; const d = f.contentDocument; d.open();
        d.write("<script>fetch(parent.location.origin + '/echo?f').then(r => r.text()).then(parent.done)<" +
          "/script>");
        d.close() })"""
    )
    assert '"/echo?f"' in found


@pytest.mark.parametrize("how", ["f.srcdoc = m", "f.setAttribute('srcdoc', m)"])
def test_a_page_inside_an_attribute(tab: Tab, how: str) -> None:
    found = tab.evaluate(
        f"""new Promise(done => {{ const f = document.createElement('iframe'); window.done = done;
        const m = "<script>fetch(parent.location.origin + '/echo?d').then(r => r.text()).then(parent.done)<" +
          "/script>";
        {how}; document.body.append(f) }})"""
    )
    assert '"/echo?d"' in found


def test_text_that_is_no_markup_is_left_alone(tab: Tab) -> None:
    """A script writes a page that contains another script, with a `<` and quotes that are not markup."""
    found = tab.evaluate(
        """new Promise(done => { const f = document.createElement('iframe'); window.done = done;
        const code = "var img = 3, said = 1<img || \\" src='/a' > \\";";
        f.srcdoc = '<!-- <img src="/no.png"> --><script>' + code + ' parent.code = document.currentScript.text;<' +
        '/script><textarea>a<b href="/d"></textarea><style>p { background: url(/a.png) }</style>' +
        '<img src="/a.png" onload="parent.done([parent.code, document.querySelector(`textarea`).value])">';
        window.wanted = code; document.body.append(f) })"""
    )
    assert found == [tab.evaluate("window.wanted") + " parent.code = document.currentScript.text;", 'a<b href="/d">']


def test_document_write(tab: Tab, site: Site) -> None:
    site.pages["/written"] = (
        "<!DOCTYPE html><head></head><body><script>document.write('<script src=\"/x.js\"><' + '/script>')</script>"
        "<script>document.title = 'loaded ' + window.loaded</script>"
    )
    tab.goto(tab.url + "written")
    assert tab.title() == "loaded 1"


def test_xhtml(tab: Tab, site: Site) -> None:
    """In XHTML (Tomcat's examples, gitweb) an empty element is not the start of another one."""
    xhtml = (
        '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/><script '
        'src="/x.js"/></head><body>'
        "<script>document.title = 'loaded ' + window.loaded + ' ' + location.pathname</script></body></html>"
    )
    site.pages["/page.xhtml"] = lambda _: (200, {"Content-Type": "application/xhtml+xml"}, xhtml)
    tab.goto(tab.url + "page.xhtml")
    assert tab.title() == "loaded 1 /page.xhtml"
    assert '"/echo?x"' in tab.evaluate("fetch('/echo?x').then(r => r.text())")


def test_cookies(fresh_tab: Tab, site: Site, front: Front, context: BrowserContext) -> None:
    fresh_tab.evaluate("document.cookie = 'a=1; path=/'")
    fresh_tab.evaluate("document.cookie = '__Host-b=2; Secure; Path=/'")
    fresh_tab.evaluate("document.cookie = 'c=3'")
    assert fresh_tab.evaluate("document.cookie.split('; ').sort()") == ["__Host-b=2", "a=1", "c=3"]
    fresh_tab.evaluate("fetch('/echo').then(r => r.text())")
    assert sorted(site.request("/echo").headers["Cookie"].split("; ")) == ["__Host-b=2", "a=1", "c=3"]
    assert all(cookie["path"].startswith(front.prefix(site)) for cookie in context.cookies())  # type: ignore[typeddict-item]
    fresh_tab.evaluate("document.cookie = 'a=; path=/; max-age=0'")
    assert "a=1" not in fresh_tab.evaluate("document.cookie")


def test_the_cookie_store(fresh_tab: Tab, site: Site, context: BrowserContext) -> None:
    found = fresh_tab.evaluate(
        """(async () => {
        await cookieStore.set({ name: '__Host-b', value: '2', path: '/' });
        await cookieStore.set('a', '1');
        const all = (await cookieStore.getAll()).map(one => one.name + one.value + (one.path || '/')).sort();
        const one = [await cookieStore.get('__Host-b'), await cookieStore.get({ name: 'a' }), await cookieStore.get('z')];
        return [all, one.map(found => found && found.value), document.cookie.split('; ').sort()] })()"""
    )
    assert found == [["__Host-b2/", "a1/"], ["2", "1", None], ["__Host-b=2", "a=1"]]
    fresh_tab.evaluate("cookieStore.delete('__Host-b').then(() => cookieStore.delete({ name: 'a' }))")
    assert context.cookies() == []


def test_service_worker(fresh_tab: Tab, site: Site, front: Front) -> None:
    site.pages["/sw.js"] = (
        "self.addEventListener('install', e => self.skipWaiting());"
        "self.addEventListener('activate', e => e.waitUntil(clients.claim()));"
        "self.addEventListener('fetch', e => { if (new URL(e.request.url).pathname === '/made-up')"
        " e.respondWith(fetch('/echo?from-sw')) });"
    )
    scope = fresh_tab.evaluate(
        "navigator.serviceWorker.register('/sw.js', {scope: '/'}).then(r => new Promise(done =>"
        " navigator.serviceWorker.controller ? done(r.scope) :"
        " navigator.serviceWorker.addEventListener('controllerchange', () => done(r.scope))))"
    )
    assert scope == front.origin + "/"
    assert "/echo?from-sw" in fresh_tab.evaluate("fetch('/made-up').then(r => r.text())")


PASSING = {
    "asked for again": "e.respondWith(fetch(e.request))",
    "from a cache": "e.respondWith(caches.open('x').then(async c => { if (!await c.match(e.request)) await "
    "c.add(e.request.url);"
    " return c.match(e.request) }))",
    "made up": "if (e.request.mode === 'navigate') e.respondWith(new Response(PAGE, {headers: {'Content-Type': "
    "'text/html'}}));"
    " else e.respondWith(fetch(e.request))",
}


@pytest.mark.parametrize("how", PASSING)
def test_answers_of_a_service_worker_have_the_script(fresh_tab: Tab, site: Site, front: Front, how: str) -> None:
    """Pages and worker scripts that a service worker returns contain the prefix script, too."""
    text = (
        "<!DOCTYPE html><html><head><title>x</title></head><script>"
        "document.title = location.pathname + ' ' + typeof __hatchway;"
        "const w = new Worker('/worker.js'); w.onmessage = e => window.said = e.data; w.postMessage(1)</script>"
    )
    site.pages["/kept/"] = text
    site.pages["/passing.js"] = (
        "self.addEventListener('install', e => self.skipWaiting());"
        "self.addEventListener('activate', e => e.waitUntil(clients.claim()));"
        f"const PAGE = {json.dumps(text)};"
        f"self.addEventListener('fetch', e => {{ if (/kept|worker/.test(e.request.url)) {{ {PASSING[how]} }} }});"
    )
    fresh_tab.evaluate(
        "navigator.serviceWorker.register('/passing.js', {scope: '/'}).then(() => new Promise(done =>"
        " navigator.serviceWorker.controller ? done() :"
        " navigator.serviceWorker.addEventListener('controllerchange', () => done())))"
    )
    fresh_tab.goto(front.url(site, "/kept/"))
    assert fresh_tab.title().endswith("function")
    if how != "made up":
        assert fresh_tab.title() == "/kept/ function"
    fresh_tab.wait_for_function("() => window.said")
    assert '"/echo?w"' in fresh_tab.evaluate("window.said")


def test_foreign_addresses_are_left_alone(tab: Tab) -> None:
    found = tab.evaluate(
        """['https://example.com/x', '//example.com/x', 'mailto:a@b', 'data:text/plain,x', 'blob:x', '#a', '?b',
        'c/d', ''].map(
        h => { const a = document.createElement('a'); a.setAttribute('href', h); return a.getAttribute('href') === h &&
        Reflect.apply(Element.prototype.getAttribute, a, ['href']) === h })"""
    )
    assert all(found)


READS = (
    "const {pathname, search} = location; window.read = [pathname, window.location.pathname, `${location.pathname}`]"
)


@pytest.mark.parametrize(
    "statement",
    [
        "new Function(code)()",
        "Function('a', code)()",
        "window.eval(__hatchwayCode(code))",
        "Object.getPrototypeOf(async () => {}).constructor(code)()",
        "document.head.append(Object.assign(document.createElement('script'), {text: code}))",
        "document.head.append(Object.assign(document.createElement('script'), {textContent: code}))",
        "(s => { s.appendChild(document.createTextNode(code)); document.head.append(s) "
        "})(document.createElement('script'))",
        "import(URL.createObjectURL(new Blob(['/* ', '*/', code], {type: 'text/javascript'})))",
    ],
)
def test_code_that_is_made_from_text(tab: Tab, front: Front, site: Site, statement: str) -> None:
    tab.goto(front.url(site, "/deep/er/"))
    tab.evaluate("code => { " + statement + " }", READS)
    tab.wait_for_function("() => window.read")
    assert tab.evaluate("window.read") == ["/deep/er/"] * 3


def test_a_served_script_that_evaluates_text(tab: Tab, front: Front, site: Site) -> None:
    text = json.dumps("window.read = [location.pathname, own, typeof local]; var local = 1")
    site.pages["/deep/evaluates.js"] = f"(function (own) {{ eval({text}); }})('still direct');"
    tab.goto(front.url(site, "/deep/er/"))
    tab.evaluate("document.head.append(Object.assign(document.createElement('script'), {src: '/deep/evaluates.js'}))")
    tab.wait_for_function("() => window.read")
    assert tab.evaluate("window.read") == ["/deep/er/", "still direct", "undefined"]


def test_the_browser_rewrites_code_as_the_server_does(tab: Tab, front: Front, site: Site) -> None:
    """The rewriter in the browser gives the same results as the server's."""
    found = tab.evaluate("list => list.map(code => __hatchwayCode(code))", [source for source, _ in CASES])
    prefix = front.prefix(site)
    assert dict(zip((source for source, _ in CASES), found, strict=True)) == {
        source: in_the_browser(expected, prefix) for source, expected in CASES
    }


def test_long_code_is_rewritten_quickly(tab: Tab) -> None:
    long = [
        "a" + "\n        .then" * 3000 + "\n;location.href",
        "{a, " * 20000 + "pathname",
        "x = " + "(" * 20000 + "href",
    ]
    for code in long:
        assert (
            tab.evaluate(
                "code => { const t = performance.now(); __hatchwayCode(code); return performance.now() - t }", code
            )
            < 2000
        )


def test_function_objects_keep_their_properties(tab: Tab) -> None:
    assert tab.evaluate(
        """[(() => {}) instanceof Function, (() => {}).constructor === Function,
        Function.prototype === Object.getPrototypeOf(Function),
        new Function('a', 'b', 'return a + b')(1, 2), new (class extends Function {})('return 3')(), Function.name]"""
    ) == [True, True, True, 3, 3, "Function"]


def test_the_location_of_a_functions_result(tab: Tab, front: Front, site: Site) -> None:
    tab.goto(front.url(site, "/deep/er/"))
    assert tab.evaluate("Function('w', 'return (() => w)().location.pathname')(window)") == "/deep/er/"
    assert tab.evaluate("(() => ({location: {pathname: '/x'}}))().__hatchwayLocation.pathname") == "/x"


def test_an_import_map_that_a_script_writes(tab: Tab, front: Front, site: Site) -> None:
    tab.goto(front.url(site, "/deep/er/"))
    tab.evaluate(
        """(s => { s.type = 'importmap'; s.textContent = JSON.stringify({imports: {answer: '/module.js'}});
        document.head.append(s) })(document.createElement('script'))"""
    )
    assert tab.evaluate("import('answer').then(m => m.value)") == 42


@pytest.mark.parametrize("host", ["location.hostname + ':8080'", "location.hostname + ':1'"])
def test_the_port_that_an_application_listens_on(tab: Tab, host: str) -> None:
    """Pages of webpack's development server contain the server's own port."""
    found = tab.evaluate(
        f"new Promise((done, no) => {{ const w = new WebSocket('ws://' + {host} + '/ws?a=1');"
        " w.onopen = () => w.send('hi'); w.onmessage = e => done(e.data); w.onerror = no })"
    )
    assert found == "/ws?a=1 hi"
    assert tab.evaluate(f"fetch('http://' + {host} + '/echo?1').then(r => r.json())") == {
        "target": "/echo?1",
        "method": "GET",
    }


def test_running_twice_changes_nothing(tab: Tab, front: Front, site: Site) -> None:
    text = PrefixRewriter(front.prefix(site).encode(), front.origin[7:].encode(), b"").script().decode()
    tab.evaluate("text => Function(text)()", text)
    assert tab.evaluate("fetch('/echo').then(r => r.json())") == {"target": "/echo", "method": "GET"}


LISTED = [(element, name) for table in (URLS, LISTS) for element, names in table.items() for name in names.split()]
LISTED += [("p", name) for names in (ANY_URLS, CANDIDATES, STYLES) for name in names.split()]


def test_listed_attributes_become_the_same_on_both_sides(tab: Tab, front: Front, site: Site) -> None:
    """An attribute gets the same value in the document whether a script or the page sets it. Scripts see no prefix."""
    written = [(element, name, "url(/a)" if name in STYLES.split() else "/a") for element, name in LISTED]
    shown = tab.evaluate(
        """list => list.map(([element, name, value]) => {
          const one = document.createElement(element);
          one.setAttribute(name, value);
          document.getElementById('root').append(one);
          return [element, name, one.getAttribute(name)];
        })""",
        written,
    )
    assert [tuple(one) for one in shown] == written
    tree = tab.context.new_cdp_session(tab)
    root = tree.send("DOM.getDocument", {"depth": -1})["root"]
    found = tree.send("DOM.querySelector", {"nodeId": root["nodeId"], "selector": "#root"})
    children = tree.send("DOM.describeNode", {"nodeId": found["nodeId"], "depth": 1})["node"]["children"]
    set_by_script = [child["attributes"][1] for child in children]
    prefix = front.url(site, "").removeprefix(front.origin)
    in_a_page = []
    for element, name, value in written:
        rewriter = PageRewriter(PrefixRule(prefix.encode(), ()), b"", whole=False)
        tag = rewriter.feed(f'<{element} {name}="{value}">'.encode()) + rewriter.finish()
        in_a_page.append(tag.decode().split('"')[1])
    both = zip(written, set_by_script, in_a_page, strict=True)
    assert [one for one in both if one[1] != one[2] or prefix not in one[1]] == []
