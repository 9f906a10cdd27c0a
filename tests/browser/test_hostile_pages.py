"""Hostile pages in a real browser: none can read the API or another service, and none gets a WebSocket.

The pages are those of other sites, of another port of localhost, of a malicious service under its own host name, and
of a host name whose DNS was rebound to the door. A control shows that each attack works: against an unprotected
server the same script succeeds.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.chromium import chromium
from tests.conftest import Cluster, wait_for
from tests.door import Door
from tests.freeports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NAMESPACE = "hostile"
SECRET = "the-secret-of-the-victim"
PROGRAM = Path(__file__).with_name("hostile_server.py")
API = "api/v1/namespaces/kube-system/configmaps"

# Attacks: functions of a URL that return the text that the attack has read; "" if the request was refused.
READS = {
    "fetch": "async url => await (await fetch(url)).text()",
    "fetch with credentials": "async url => await (await fetch(url, { credentials: 'include' })).text()",
    "fetch with a header of its own": "async url => await (await fetch(url, { headers: { 'X-Own': '1' } })).text()",
    "fetch without CORS": "async url => await (await fetch(url, { mode: 'no-cors' })).text()",
    "XMLHttpRequest": """url => new Promise(done => {
        const request = new XMLHttpRequest();
        request.onload = () => done(request.responseText);
        request.onerror = () => done("");
        request.open("GET", url);
        request.send();
    })""",
    "EventSource": """url => new Promise(done => {
        const source = new EventSource(url);
        source.onmessage = event => done(event.data);
        source.onerror = () => done("");
    })""",
    "script": """url => new Promise(done => {
        const script = Object.assign(document.createElement("script"), { src: url });
        script.onload = () => done(window.stolen || "");
        script.onerror = () => done("");
        document.head.append(script);
    })""",
    "module": "async url => { await import(url); return window.stolen || ''; }",
    "iframe": """url => new Promise(done => {
        const frame = Object.assign(document.createElement("iframe"), { src: url });
        frame.onload = () => {
            try { done(frame.contentDocument.documentElement.textContent); } catch { done(""); }
        };
        document.body.append(frame);
    })""",
    "object": """url => new Promise(done => {
        const part = Object.assign(document.createElement("object"), { data: url });
        part.onload = () => { try { done(part.contentDocument.documentElement.textContent); } catch { done(""); } };
        part.onerror = () => done("");
        document.body.append(part);
    })""",
    "WebSocket": """url => new Promise(done => {
        const socket = new WebSocket(url.replace(/^http/, "ws"));
        socket.onmessage = event => done(event.data);
        socket.onopen = () => setTimeout(() => done("open"), 500);
        socket.onerror = () => done("");
    })""",
    "service worker": """async url => (await navigator.serviceWorker.register(url)).scope""",
    "worker": """url => new Promise(done => {
        const worker = new Worker(url);
        worker.onmessage = event => done(event.data);
        worker.onerror = () => done("");
    })""",
}
WINDOW = """url => new Promise(done => {
    const opened = open(url);
    window.answers = "";
    addEventListener("message", event => { window.answers += JSON.stringify(event.data); });
    let tries = 0;
    const timer = setInterval(() => {
        try { if (opened && opened.document.location.href !== "about:blank") {
            clearInterval(timer); done(opened.document.documentElement.textContent);
        } } catch (error) { /* It has gone to another origin. */ }
        if (opened) opened.postMessage("tell me", "*");
        if (++tries === 10) { clearInterval(timer); done(window.answers); }
    }, 100);
})"""


def attempt(page: Page, script: str, url: str) -> str:
    """Return the text that an attack has read; "" if it was refused."""
    return attempts(page, [(script, url)])[0]


def attempts(page: Page, tries: Sequence[tuple[str, str]]) -> list[str]:
    """Run several attacks, each (script, URL), at the same time; return the texts that they have read."""
    runs = ",".join(f"attack({script}, {json.dumps(url)})" for script, url in tries)
    found: list[str] = page.evaluate(f"""() => {{
        const attack = async (script, url) => {{
            const late = new Promise(done => setTimeout(done, 4000, ""));
            try {{ return String(await Promise.race([script(url), late])); }} catch {{ return ""; }}
        }};
        return Promise.all([{runs}]);
    }}""")
    return found


def refused(learnt: str) -> bool:
    """Return True if the text has nothing secret. A rebound page may read the refusal of its own request."""
    return learnt in ("", "Forbidden\n") or "The door refuses this request" in learnt or '"refused: ' in learnt


@contextlib.contextmanager
def serve(name: str) -> Iterator[int]:
    """Run the hostile server as a process on loopback; yield its port."""
    port = free_port()
    with subprocess.Popen([sys.executable, PROGRAM, "127.0.0.1", str(port), name]) as process:
        try:

            def listens() -> bool:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    return True
                return False

            wait_for(listens)
            yield port
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # The first option simulates the attacker's DNS server. The second switches off the protection of loopback
    # addresses in newer versions of Chromium: the door must be safe without it, because other browsers lack it.
    arguments = ["--host-resolver-rules=MAP *.example 127.0.0.1", "--disable-features=LocalNetworkAccessChecks"]
    with chromium(arguments) as running:
        yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    # Without this option, the processor would draw animations sixty times a second.
    made = browser.new_context(reduced_motion="reduce")
    yield made
    made.close()


@pytest.fixture(scope="module")
def outside() -> Iterator[int]:
    """Run the attacker's web server; yield its port."""
    with serve("of the attacker") as port:
        yield port


@pytest.fixture(scope="module")
def open_server() -> Iterator[int]:
    """Run an unprotected server; yield its port."""
    with serve(SECRET) as port:
        yield port


@dataclass
class Services:
    """Two services behind the door; the URLs end with a slash."""

    victim: str
    malice: str
    cluster: Cluster
    token: str

    def log(self) -> list[str]:
        """Return the requests that have reached the victim."""
        path = f"/api/v1/namespaces/{NAMESPACE}/services/victim/proxy/log"
        found: list[str] = self.cluster.get(path, token=self.token).json
        return [line for line in found if not line.endswith("/log")]


@pytest.fixture(scope="module")
def services(cluster: Cluster, door: Door) -> Iterator[Services]:
    cluster.kubectl("create", "namespace", NAMESPACE)
    items = []
    for name in ("victim", "malice"):
        container = {
            "name": "web",
            "image": "hatchway/host",
            "command": ["python3", "/program/hostile_server.py", "0.0.0.0", "8080", SECRET],
            "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30},
            "volumeMounts": [{"name": "program", "mountPath": "/program"}],
        }
        spec = {"containers": [container], "volumes": [{"name": "program", "configMap": {"name": "program"}}]}
        meta = {"name": name, "namespace": NAMESPACE, "labels": {"app": name}}
        items.append({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        ports = [{"port": 80, "targetPort": 8080}]
        items.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {"selector": {"app": name}, "ports": ports},
            }
        )
    program = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "program", "namespace": NAMESPACE},
        "data": {"hostile_server.py": PROGRAM.read_text()},
    }
    listed = {"apiVersion": "v1", "kind": "List", "items": [program, *items]}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(listed))
    cluster.kubectl("-n", NAMESPACE, "wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s")
    yield Services(door.host("victim", NAMESPACE), door.host("malice", NAMESPACE), cluster, cluster.token())
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


ATTACKERS = [
    "another site",
    "another port of localhost",
    "127.0.0.1",
    "a malicious service",
    "a page without an origin",
    "rebound",
]


@pytest.fixture(params=ATTACKERS)
def hostile(
    request: pytest.FixtureRequest, context: BrowserContext, outside: int, door: Door, services: Services
) -> Page:
    """Open a page of the attacker; yield it."""
    url = {
        "another site": f"http://evil.example:{outside}/",
        "another port of localhost": f"http://localhost:{outside}/",
        "127.0.0.1": f"http://127.0.0.1:{outside}/",
        "a malicious service": services.malice,
        "a page without an origin": f"{services.malice}sandboxed",
        "rebound": f"http://rebind.example:{door.port}/",
    }[request.param]
    page = context.new_page()
    if request.param == "rebound":
        # The page is loaded while its name resolves to the attacker; afterwards the name resolves to the door.
        rebind(page, url)
    page.goto(url)
    assert page.inner_text("h1") == "hello"
    return page


def rebind(page: Page, url: str) -> None:
    page.route(url, lambda route: route.fulfill(content_type="text/html", body="<h1>hello</h1>"), times=1)


def targets(door: Door, services: Services, hostile: Page, what: str) -> list[str]:
    """Return the attacked URLs of the API or the victim; for a rebound page, also those below its own host name."""
    if what == "api":
        paths = [
            f"{door.url}{API}",
            f"http://127.0.0.1:{door.port}/{API}",
            f"http://prefix.localhost:{door.port}/{API}",
        ]
        paths.append(f"{services.victim}{API}")
    else:
        proxied = f"api/v1/namespaces/{NAMESPACE}/services/victim/proxy/{what}"
        paths = [f"{services.victim}{what}", f"{door.url}{proxied}", f"http://prefix.localhost:{door.port}/{proxied}"]
    if "rebind.example" in hostile.url:
        paths += [f"http://rebind.example:{door.port}/{path.split('/', 3)[3]}" for path in paths]
    return paths


_PARTS = {
    "EventSource": "events",
    "script": "secret.js",
    "module": "secret.js",
    "WebSocket": "ws",
    "service worker": "worker.js",
    "worker": "secret.js",
}


def test_no_page_reads_the_api(hostile: Page, door: Door, services: Services) -> None:
    tries = [(how, url) for how in READS for url in targets(door, services, hostile, "api")]
    learnt = attempts(hostile, [(READS[how], url) for how, url in tries])
    assert [(*one, text[:200]) for one, text in zip(tries, learnt, strict=True) if not refused(text)] == []


def test_no_page_reads_what_the_portal_shows(hostile: Page, door: Door, services: Services) -> None:
    pages = [f"-/hatchway/pods/{NAMESPACE}/victim/{page}" for page in ("logs", "events", "yaml")]
    paths = [*pages, "-/hatchway/state", f"api/v1/namespaces/{NAMESPACE}/pods/victim/log"]
    urls = [f"{door.url}{path}" for path in paths]
    if "rebind.example" in hostile.url:
        urls += [f"http://rebind.example:{door.port}/{path}" for path in paths]
    tries = [(how, url) for how in READS for url in urls]
    learnt = attempts(hostile, [(READS[how], url) for how, url in tries])
    assert [(*one, text[:200]) for one, text in zip(tries, learnt, strict=True) if not refused(text)] == []
    for page in pages:
        assert attempt(hostile, WINDOW, f"{door.url}{page}") == ""


def test_no_page_reads_a_service(hostile: Page, door: Door, services: Services) -> None:
    before = len(services.log())
    tries = [(how, url) for how in READS for url in targets(door, services, hostile, _PARTS.get(how, "secret"))]
    learnt = attempts(hostile, [(READS[how], url) for how, url in tries])
    assert [(*one, text[:200]) for one, text in zip(tries, learnt, strict=True) if not refused(text)] == []
    # WebSocket requests do not reach the service.
    assert "GET /ws" not in services.log()[before:]


def test_no_page_reads_a_window_that_it_opened(hostile: Page, door: Door, services: Services) -> None:
    for url in (door.url, f"{door.url}{API}", f"{services.victim}secret"):
        learnt = attempt(hostile, WINDOW, url)
        assert learnt == ""


WRITES = {
    "form": """(url, body) => {
        const form = Object.assign(document.createElement("form"), { method: "post", action: url,
        enctype: "text/plain" });
        const [name, ...rest] = body.split("=");
        form.append(Object.assign(document.createElement("input"), { name, value: rest.join("=") }));
        document.body.append(form);
        form.submit();
    }""",
    "fetch": "(url, body) => { fetch(url, { method: 'POST', mode: 'no-cors', body }).catch(() => 0); }",
    "fetch of JSON": """(url, body) => {
        fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body }).catch(() => 0);
    }""",
    "beacon": "(url, body) => { navigator.sendBeacon(url, body); }",
    "delete": "(url, body) => { fetch(url, { method: 'DELETE' }).catch(() => 0); }",
}


def write(page: Page, how: str, url: str) -> None:
    """Send a request that would change something; wait until the browser has the response."""
    # A form of the type text/plain sends NAME=VALUE, so the body needs a "=".
    body = json.dumps(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "stolen", "annotations": {"a": "="}}}
    )
    done = threading.Event()
    for event in ("requestfinished", "requestfailed"):
        page.context.on(event, lambda request: done.set() if request.url == url else None)  # type: ignore[call-overload]
    page.evaluate(f"([url, body]) => ({WRITES[how]})(url, body)", [url, body])
    wait_for(lambda: page.wait_for_timeout(20) or done.is_set(), seconds=10)


@pytest.mark.parametrize("how", WRITES)
def test_no_page_writes_to_the_api(hostile: Page, door: Door, services: Services, how: str) -> None:
    target, kept = f"{door.url}api/v1/namespaces", f"/api/v1/namespaces/{NAMESPACE}/configmaps/kept"
    if how == "delete":
        services.cluster.kubectl("-n", NAMESPACE, "create", "configmap", "kept", check=False)
        target += f"/{NAMESPACE}/configmaps/kept"
    write(hostile, how, target)
    if how == "delete":
        assert services.cluster.get(kept, token=services.token).status == 200
    assert services.cluster.get("/api/v1/namespaces/stolen", token=services.token).status == 404


@pytest.mark.parametrize("how", [how for how in WRITES if how not in ("form", "delete")])
def test_no_page_writes_to_a_service(hostile: Page, services: Services, how: str) -> None:
    before = len(services.log())
    write(hostile, how, f"{services.victim}order")
    assert [line for line in services.log()[before:] if "order" in line and "OPTIONS" not in line] == []


DOMAINS = ["svc.localhost", f"{NAMESPACE}.svc.localhost", "localhost", ".svc.localhost"]


@pytest.mark.parametrize("domain", DOMAINS)
def test_cookies_of_a_service_stay_its_own(context: BrowserContext, services: Services, domain: str) -> None:
    page = context.new_page()
    page.goto(f"{services.victim}set?cookie=session%3Dgood")
    # Repeated attempts do not replace the victim's own cookies.
    for _ in range(3):
        page.goto(f"{services.malice}set?cookie=session%3Devil-by-header%3B Domain%3D{domain}&cookie=own%3D1")
        page.evaluate(
            """domain => {
                document.cookie = `session=evil-by-script; Domain=${domain}; Path=/`;
                document.cookie = `session=evil-by-path; Domain=${domain}; Path=/cookies`;
                document.cookie = `planted=1; Domain=${domain}; Path=/`;
            }""",
            domain,
        )
        assert "own=1" in page.goto(f"{services.malice}cookies").text()  # type: ignore[union-attr]
        received = page.goto(f"{services.victim}cookies").text()  # type: ignore[union-attr]
        assert json.loads(received) == ["session=good"]


def test_cookies_that_a_page_sets_by_script_reach_its_service(context: BrowserContext, services: Services) -> None:
    page = context.new_page()
    page.goto(services.victim)
    page.evaluate("document.cookie = 'theme=dark; Path=/'; document.cookie = 'here=1; Path=/cookies'")
    for _ in range(2):
        received = page.goto(f"{services.victim}cookies").text()  # type: ignore[union-attr]
        assert sorted(json.loads(received)[0].split("; ")) == ["here=1", "theme=dark"]
    # Requests by scripts have the cookies, too.
    page.evaluate("document.cookie = 'fresh=1; Path=/'")
    assert "fresh=1" in page.evaluate("fetch('/cookies').then(answer => answer.text())")


def test_a_service_worker_keeps_to_its_service(context: BrowserContext, services: Services, door: Door) -> None:
    page = context.new_page()
    page.goto(services.malice)
    page.evaluate(
        "navigator.serviceWorker.register('/worker.js', { scope: '/' }).then(() => navigator.serviceWorker.ready)"
    )
    wait_for(lambda: page.goto(f"{services.malice}anything").text() == "taken")  # type: ignore[union-attr]
    assert page.goto(f"{services.victim}secret").text() == SECRET  # type: ignore[union-attr]
    answer = page.goto(door.url)
    assert answer is not None
    assert answer.text() != "taken"


def test_a_service_worker_keeps_to_its_service_under_the_prefix(
    context: BrowserContext, services: Services, door: Door
) -> None:
    """All applications below one host name share an origin, but none may register a service worker for the others."""
    malice, victim = door.prefix("malice", NAMESPACE), door.prefix("victim", NAMESPACE)
    page = context.new_page()
    page.goto(malice)
    # A frame without the prefix script has the browser's own functions.
    page.evaluate(
        """async url => {
            const frame = document.createElement("iframe");
            document.body.append(frame);
            for (const container of [navigator.serviceWorker, frame.contentWindow.navigator.serviceWorker]) {
                for (const scope of ["/", "/api/v1/namespaces/"]) {
                    try { await container.register(url, { scope }); } catch { /* It may not. */ }
                }
            }
        }""",
        malice + "worker.js",
    )
    for _ in range(2):
        assert page.goto(victim + "secret").text() == SECRET  # type: ignore[union-attr]


def test_the_rebound_name_is_refused(context: BrowserContext, door: Door) -> None:
    page = context.new_page()
    for path in ("", API):
        response = page.goto(f"http://rebind.example:{door.port}/{path}")
        assert response is not None
        assert response.status in (400, 403, 421)


def test_the_prefix_host_serves_no_api(context: BrowserContext, door: Door) -> None:
    page = context.new_page()
    response = page.goto(f"http://prefix.localhost:{door.port}/{API}")
    assert response is not None
    assert response.status in (403, 404)
    assert "ConfigMap" not in response.text()


class TestControl:
    """The control: the attacks succeed against an unprotected server."""

    def test_reads(self, context: BrowserContext, open_server: int) -> None:
        """From a page of the server itself, all attacks read the secret."""
        base = f"http://victim.example:{open_server}/"
        page = context.new_page()
        for how, script in READS.items():
            page.goto(base)
            attack = (page, script, base + _PARTS.get(how, "secret"))
            if how in ("fetch without CORS", "service worker", "worker"):
                # A plain-HTTP host other than localhost has no service workers.
                attempt(*attack)
                continue
            # Attacks have short timeouts, which may be too short on a busy machine.
            wait_for(lambda attack=attack: SECRET in attempt(*attack))
        wait_for(lambda: SECRET in attempt(page, WINDOW, base + "secret"))

    def test_a_websocket_across_sites(self, context: BrowserContext, outside: int, open_server: int) -> None:
        page = context.new_page()
        page.goto(f"http://evil.example:{outside}/")
        assert attempt(page, READS["WebSocket"], f"http://localhost:{open_server}/ws") == SECRET
        assert attempt(page, READS["script"], f"http://localhost:{open_server}/secret.js") == SECRET

    def test_rebinding(self, context: BrowserContext, open_server: int) -> None:
        page = context.new_page()
        url = f"http://rebind.example:{open_server}/"
        rebind(page, url)
        page.goto(url)
        assert attempt(page, READS["fetch"], url + "secret") == SECRET

    @pytest.mark.parametrize("how", ["form", "fetch", "beacon"])
    def test_writes(self, context: BrowserContext, outside: int, open_server: int, how: str) -> None:
        page = context.new_page()
        page.goto(f"http://evil.example:{outside}/")
        write(page, how, f"http://localhost:{open_server}/order-by-{how}")
        assert f"POST /order-by-{how}" in _log(context, open_server)

    def test_cookies(self, context: BrowserContext, outside: int, open_server: int) -> None:
        page = context.new_page()
        page.goto(f"http://malice.hostile.svc.localhost:{outside}/set?cookie=a%3D1%3B Domain%3Dsvc.localhost")
        page.evaluate("document.cookie = 'b=2; Domain=svc.localhost'")
        received = page.goto(f"http://victim.hostile.svc.localhost:{open_server}/cookies")
        assert json.loads(received.text()) == ["a=1; b=2"]  # type: ignore[union-attr]


def _log(context: BrowserContext, port: int) -> Any:
    page = context.new_page()
    return json.loads(page.goto(f"http://localhost:{port}/log").text())  # type: ignore[union-attr]
