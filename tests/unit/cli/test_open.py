"""`hatchway open` on a machine without a browser."""

from __future__ import annotations

import http.server
import threading
import webbrowser
from pathlib import Path

import pytest
from click.testing import CliRunner

from hatchway.cli.open import open_target
from hatchway.errors import HatchwayError


class _Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_url_is_printed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    with http.server.HTTPServer(("127.0.0.1", 0), _Door) as door:
        serving = threading.Thread(target=door.serve_forever)
        serving.start()
        try:
            port = str(door.server_address[1])
            arguments = ["web", "-n", "shop", "--port", port, "--kubeconfig", str(tmp_path / "none")]
            done = CliRunner().invoke(open_target, arguments)
        finally:
            door.shutdown()
            serving.join()
    assert isinstance(done.exception, HatchwayError)
    url = f"http://web.shop.svc.localhost:{port}/"
    assert f"{done.output}{done.exception.message}{done.exception.hint}".count(url) == 1
    assert done.stdout == f"{url}\n"
    assert done.exception.hint == "open the printed URL by hand"
