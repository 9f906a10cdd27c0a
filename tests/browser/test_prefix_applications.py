"""Web applications whose features do not work with Kubernetes' own rewriting, through the API server's proxy verb.

Requests without the prefix are not redirected here by their Referer: they get a 404.
"""

from __future__ import annotations

import http.client
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.behind import Front, Seen, Site, proxy_verb, serving
from tests.conftest import wait_for
from tests.downloads import installation

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext
    from playwright.sync_api import Page as Tab

PACKAGES = (
    "react@18",
    "react-dom@18",
    "react-router@6",
    "react-router-dom@6",
    "@remix-run/router@1",
    "vue@3",
    "vue-router@4",
    "socket.io@4",
)


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with proxy_verb(strays=False) as found:
        yield found


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture
def tab(context: BrowserContext) -> Tab:
    return context.new_page()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site({})
    with serving(site):
        yield site


@pytest.fixture(scope="module")
def packages() -> Path:
    """Install packages from npm, once; return their directory."""
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine")
    return installation("npm-prefix", repr(PACKAGES), _install) / "node_modules"


def _install(directory: Path) -> None:
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(directory)]
    found = subprocess.run(["npm", "install", *options, *PACKAGES], capture_output=True, text=True, timeout=110)
    if found.returncode:
        pytest.skip(f"npm cannot install: {found.stderr[-300:]}")


def status(answer: Any) -> int:
    assert answer is not None
    return int(answer.status)


def ask(front: Front, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=10)
    connection.request(method, path, body, {"Host": f"prefix.localhost:{front.port}", **headers})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_absolute_modules_and_lazily_loaded_chunks(tab: Tab, front: Front, site: Site) -> None:
    site.pages |= {
        "/": """<!DOCTYPE html><html><head><script type=importmap>{"imports": {"lib": "/lib.js"}}</script>
            <link rel=modulepreload href=/assets/a.js><script type=module src=/assets/a.js></script>
            </head><body></body></html>""",
        "/assets/a.js": """import {b} from "/assets/b.js"; import {lib} from "lib";
            const name = 'c'; const [one, two] = await Promise.all([import("/assets/c.js"),
            import(`/assets/${name}.js?2`)]);
            document.title = [b, lib, one.c, two.c, location.pathname].join(' ');""",
        "/assets/b.js": "export const b = 'b';",
        "/assets/c.js": "export const c = 'c' + new URL(import.meta.url).search;",
        "/lib.js": "export const lib = 'lib';",
    }
    tab.goto(front.url(site))
    tab.wait_for_function("() => document.title")
    assert tab.title() == "b lib c c?2 /"


def test_fetch_in_all_its_forms(tab: Tab, front: Front, site: Site) -> None:
    site.pages |= {
        "/": """<!DOCTYPE html><head></head><script>
            const x = new XMLHttpRequest(); x.open('GET', '/data.json', false); x.send();
            fetch('/data.json').then(r => r.json()).then(j =>
            document.title = j.a + JSON.parse(x.responseText).a)</script>""",
        "/data.json": '{"a": 1}',
    }
    tab.goto(front.url(site))
    tab.wait_for_function("() => document.title === '2'")


REACT = """<!DOCTYPE html><html><head><base href="/"></head><body><div id=root></div>
<script src="/react/umd/react.production.min.js"></script>
<script src="/react-dom/umd/react-dom.production.min.js"></script>
<script src="/@remix-run/router/dist/router.umd.min.js"></script>
<script src="/react-router/dist/umd/react-router.production.min.js"></script>
<script src="/react-router-dom/dist/umd/react-router-dom.production.min.js"></script>
<script>
const {createBrowserRouter, RouterProvider, Link, useParams, useLocation, useNavigate} = ReactRouterDOM,
h = React.createElement;
const Home = () => h('p', {id: 'at'}, 'home', h(Link, {to: '/users/7', id: 'go'}, 'seven'));
const User = () => { const navigate = useNavigate(), l = useLocation();
  return h('p', {id: 'at'}, 'user ' + useParams().id + ' ' + l.pathname, h('button', {id: 'home', onClick: () =>
  navigate('/')}, 'home')) };
const router = createBrowserRouter([{path: '/', element: h(Home)}, {path: '/users/:id', element: h(User)},
  {path: '*', element: h('p', {id: 'at'}, 'lost')}]);
ReactDOM.createRoot(document.getElementById('root')).render(h(RouterProvider, {router}));
</script></body></html>"""

VUE = """<!DOCTYPE html><html><head></head><body><div id=root></div>
<script src="/vue/dist/vue.global.prod.js"></script><script src="/vue-router/dist/vue-router.global.prod.js"></script>
<script>
const {createRouter, createWebHistory} = VueRouter;
const Home = {template: '<p id=at>home<router-link to="/users/7" id=go>seven</router-link></p>'};
const User = {template: '<p id=at>user {{$route.params.id}} {{$route.path}}' +
  '<button id=home @click="$router.push(`/`)">home</button></p>'};
const router = createRouter({history: createWebHistory(), routes: [{path: '/', component: Home},
  {path: '/users/:id', component: User}, {path: '/:rest(.*)', component: {template: '<p id=at>lost</p>'}}]});
Vue.createApp({template: '<router-view/>'}).use(router).mount('#root');
</script></body></html>"""


@pytest.mark.parametrize("page", [REACT, VUE], ids=["react-router", "vue-router"])
def test_client_routers(tab: Tab, front: Front, site: Site, packages: Path, page: str) -> None:
    """Real routers, which read `location.pathname`: links, entered addresses, reload and back."""

    class Anywhere(dict[str, Any]):
        def get(self, path: str, default: Any = None) -> Any:
            file = packages / path.lstrip("/")
            return file.read_text() if file.suffix == ".js" and file.is_file() else page

    site.pages = Anywhere()
    tab.goto(front.url(site))
    tab.wait_for_selector("#at")
    assert tab.inner_text("#at").startswith("home")
    tab.click("#go")
    tab.wait_for_function("() => document.querySelector('#at').textContent.startsWith('user 7 /users/7')")
    assert tab.url == front.url(site, "/users/7")
    tab.reload()
    tab.wait_for_function("() => document.querySelector('#at').textContent.startsWith('user 7 /users/7')")
    tab.click("#home")
    tab.wait_for_function("() => document.querySelector('#at').textContent.startsWith('home')")
    assert tab.url == front.url(site, "/")
    tab.go_back()
    tab.wait_for_function("() => document.querySelector('#at').textContent.startsWith('user 7')")
    tab.goto(front.url(site, "/nowhere/at/all"))
    tab.wait_for_function("() => document.querySelector('#at').textContent === 'lost'")


SOCKET_IO = """
const {Server} = require('socket.io'), http = require('http'), fs = require('fs');
const page = `<!DOCTYPE html><head><script src="/socket.io/socket.io.js"></script></head><script>
  const s = io(%s); s.on('connect', () => s.emit('say', 'hi'));
  s.on('said', t => document.title = t + ' ' + s.io.engine.transport.name);</script>`;
const server = http.createServer((q, r) => { r.setHeader('Content-Type', 'text/html'); r.end(page) });
new Server(server).on('connection', s => s.on('say', t => s.emit('said', t)));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
"""


@pytest.mark.parametrize(
    ("options", "transport"),
    [
        ("", "polling"),
        ("{transports: ['websocket']}", "websocket"),
        ("location.origin, {transports: ['websocket']}", "websocket"),
    ],
)
def test_socket_io(tab: Tab, front: Front, packages: Path, options: str, transport: str) -> None:
    command = ["node", "-e", SOCKET_IO % options]
    process = subprocess.Popen(command, cwd=packages.parent, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        site = Site({}, port=int(process.stdout.readline()))
        tab.goto(front.url(site))
        tab.wait_for_function("() => document.title.startsWith('hi ')")
        if transport == "websocket":
            assert tab.title() == "hi websocket"
    finally:
        process.kill()
        process.wait()


def test_redirects_built_from_host(tab: Tab, front: Front, site: Site) -> None:
    def redirect(request: Seen) -> Any:
        return 302, {"Location": f"http://{request.headers['Host']}/login?next=/"}, ""

    site.pages |= {"/": redirect, "/login": "<!DOCTYPE html><title>login</title><form action=/login method=post>"}
    tab.goto(front.url(site))
    assert tab.url == front.url(site, "/login?next=/")
    assert tab.title() == "login"


def test_the_location_of_an_upload(tab: Tab, front: Front, site: Site) -> None:
    """The script of tus continues an upload at the address in `Location`, which may be absolute or relative."""

    def create(request: Seen) -> Any:
        host = request.headers["Host"]
        return 201, {"Location": f"http://{host}/files/1" if request.body == b"absolute" else "/files/1"}, ""

    site.pages |= {
        "/": "<!DOCTYPE html><head></head>",
        "/files": create,
        "/files/1": lambda r: (204, {"Upload-Offset": str(len(r.body))}, ""),
    }
    tab.goto(front.url(site))
    for kind in ("absolute", "path"):
        found = tab.evaluate(
            """async kind => { const made = await fetch('/files', {method: 'POST', body: kind});
            const at = new URL(made.headers.get('Location'), location.href).href;
            return (await fetch(at, {method: 'PATCH', body: 'abc'})).headers.get('Upload-Offset') }""",
            kind,
        )
        assert found == "3"


def test_cookies_with_a_path(tab: Tab, front: Front, site: Site, context: BrowserContext) -> None:
    other = Site({"/": "<!DOCTYPE html><p>other"})
    site.pages |= {
        "/login": lambda _: (
            302,
            {"Location": "/", "Set-Cookie": "sid=1; Path=/; HttpOnly\n__Host-csrf=2; Path=/; Secure"},
            "",
        ),
        "/": lambda r: f"<!DOCTYPE html><p id=c>{r.headers.get('Cookie')}",
    }
    tab.goto(front.url(site, "/login"))
    assert sorted(tab.inner_text("#c").split("; ")) == ["__Host-csrf=2", "sid=1"]
    assert tab.evaluate("document.cookie") == "__Host-csrf=2"
    with serving(other):
        tab.goto(front.url(other))
        assert other.request("/").headers["Cookie"] is None


def test_webdav(front: Front, site: Site) -> None:
    multistatus = "<?xml version='1.0'?><D:multistatus xmlns:D='DAV:'><D:href>/dav/a</D:href></D:multistatus>"
    site.pages |= {
        "/dav/": lambda r: (207, {"Content-Type": "application/xml"}, multistatus),
        "/dav/a": lambda r: (201, {"Location": "/dav/b"}, ""),
    }
    prefix = front.prefix(site)
    for method in ("PROPFIND", "REPORT", "MKCOL", "LOCK", "PROPPATCH"):
        assert ask(front, method, prefix + "/dav/", {"Depth": "1"}).status == 207
        assert site.seen[-1].method == method
    answer = ask(front, "MOVE", prefix + "/dav/a", {"Destination": front.url(site, "/dav/b"), "Overwrite": "F"})
    assert answer.status == 201
    assert answer.headers["Location"] == prefix + "/dav/b"
    assert site.seen[-1].headers["Destination"] == front.origin + "/dav/b"
    assert site.seen[-1].headers["Overwrite"] == "F"


POLICIES = [
    "default-src 'self'",
    "script-src 'self'; object-src 'none'",
    "script-src 'nonce-r4nd0m' 'strict-dynamic'; base-uri 'none'",
    "default-src 'none'; script-src 'nonce-r4nd0m'; connect-src 'self'",
    "script-src 'self' 'unsafe-inline'; worker-src 'self'",
    "script-src 'self' 'sha256-9JbbZgv/g4EYDs0hIlcaXaJSKBRzIxPnNbdMgD6UBWs='; require-trusted-types-for 'script'",
    "script-src 'self'; require-trusted-types-for 'script'; trusted-types none",
]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("how", ["field", "meta"])
def test_policies(tab: Tab, front: Front, site: Site, policy: str, how: str) -> None:
    site.pages |= {
        "/app.js": "fetch('/data.json').then(r => r.json()).then(j => document.title = 'got ' + j.a)",
        "/data.json": '{"a": 1}',
    }
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">' if how == "meta" else ""
    page = f"<!DOCTYPE html><html><head>{meta}<script nonce=r4nd0m src=/app.js></script></head></html>"
    field = {} if how == "meta" else {"Content-Security-Policy": policy}
    site.pages["/"] = lambda _: (200, {"Content-Type": "text/html", **field}, page)
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.goto(front.url(site))
    wait_for(lambda: tab.title() == "got 1")  # wait_for_function would need 'unsafe-eval' in the policy.
    assert said == []


def test_an_isolated_page_has_shared_memory(tab: Tab, front: Front, site: Site) -> None:
    isolated = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
    page = """<!DOCTYPE html><head></head><script>
        const w = new Worker('/worker.js'), memory = new SharedArrayBuffer(4);
        w.onmessage = () => document.title = crossOriginIsolated + ' ' + new Int32Array(memory)[0];
        w.postMessage(memory)
        </script>"""
    worker = "onmessage = e => { Atomics.store(new Int32Array(e.data), 0, 42); postMessage(0) }"
    site.pages |= {
        "/": lambda _: (200, {"Content-Type": "text/html", **isolated}, page),
        "/worker.js": lambda _: (200, {"Content-Type": "text/javascript", **isolated}, worker),
    }
    tab.goto(front.url(site))
    tab.wait_for_function("() => document.title === 'true 42'")


def test_a_service_worker_that_caches(tab: Tab, front: Front, site: Site, context: BrowserContext) -> None:
    """The cache is filled with addresses without the prefix, and answers while the server is unreachable."""
    site.pages |= {
        "/": """<!DOCTYPE html><head><script src=/app.js></script></head><script>
            navigator.serviceWorker.register('/sw.js').then(() => navigator.serviceWorker.ready)
            .then(r => document.title = new URL(r.scope).pathname + ' ' + new URL(r.active.scriptURL).pathname)
            </script>""",
        "/app.js": "window.app = 1;",
        "/sw.js": """const FILES = ['/', '/app.js'];
            self.addEventListener('install', e => e.waitUntil(caches.open('v1').then(c => c.addAll(FILES))));
            self.addEventListener('fetch', e => { const path = new URL(e.request.url).pathname;
              if (FILES.includes(path)) e.respondWith(caches.match(path)) });""",
    }
    tab.goto(front.url(site))
    tab.wait_for_function("() => document.title")
    assert tab.title() == "/ /sw.js"
    asked = len(site.seen)
    again = context.new_page()
    again.goto(front.url(site))
    again.wait_for_function("() => window.app === 1")
    assert [one for one in site.targets()[asked:] if one in ("/", "/app.js")] == []


def test_csrf_and_origin_checks(tab: Tab, front: Front, site: Site) -> None:
    """Checks as in Django and others: Origin and Referer against Host, a cookie against a field of the form."""

    def post(request: Seen) -> Any:
        host = request.headers["Host"]
        good = request.headers["Origin"] == f"http://{host}" and request.headers["Referer"] == f"http://{host}/form"
        good = good and "csrf=abc" in request.headers["Cookie"] and b"token=abc" in request.body
        return (302, {"Location": "/done"}, "") if good else (403, {"Content-Type": "text/html"}, "refused")

    form = "<!DOCTYPE html><form method=post action=/post><input name=token value=abc><button>go</button></form>"
    site.pages |= {
        "/form": lambda _: (200, {"Content-Type": "text/html", "Set-Cookie": "csrf=abc; Path=/; SameSite=Lax"}, form),
        "/post": post,
        "/done": "<!DOCTYPE html><title>done</title>",
    }
    tab.goto(front.url(site, "/form"))
    tab.click("button")
    tab.wait_for_function("() => document.title === 'done'")
    assert tab.url == front.url(site, "/done")


def test_kubernetes_mode_and_off(browser: Browser, site: Site) -> None:
    site.pages |= {
        "/": "<!DOCTYPE html><a href=/x>",
        "/go": lambda _: (302, {"Location": "/x", "Set-Cookie": "a=1; Path=/"}, ""),
    }
    with proxy_verb("kubernetes") as front:
        prefix = front.prefix(site)
        answer = ask(front, "GET", prefix + "/go", {})
        assert (answer.headers["Location"], answer.headers["Set-Cookie"]) == (prefix + "/x", "a=1; Path=/")
        assert ask(front, "PROPFIND", prefix + "/", {}).status == 405
        answer = ask(front, "GET", prefix + "/go", {"X-Hatchway-Rewrite": "off"})
        assert (answer.headers["Location"], answer.headers["X-Hatchway-Rewrite"]) == ("/x", "off")
        assert ask(front, "GET", prefix + "/", {"X-Hatchway-Rewrite": "maybe"}).status == 400


def test_requests_that_lost_their_prefix(tab: Tab, site: Site) -> None:
    """If a script composes an address in an unknown way, the request is redirected to the prefix by its Referer."""
    site.pages |= {
        "/": """<!DOCTYPE html><head></head><body><script>const s = document.createElement('style');
            s.textContent = 'p { background: url(/a.css.png) }'; document.head.append(s);
            document.body.innerHTML += '<p>x</p>'</script>""",
        "/a.css.png": "x",
    }
    with proxy_verb() as front:
        tab.goto(front.url(site))
        wait_for(lambda: "/a.css.png" in site.targets())
