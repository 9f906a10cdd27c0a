"""Stand-ins for the images of Kubernetes' guestbook, with the same answers, which find each other by the same names."""

from __future__ import annotations

from tests.images import debianimages
from tests.images.making import BuiltImage

# The frontend: guestbook.php?cmd=set&key=K&value=V writes to the master, cmd=get&key=K reads from a replica.
_FRONTEND = """\
#!/usr/bin/python3
import http.server, json, os, socket, urllib.parse

def ask(role, *words):
    name = f"redis-{role}"
    if os.environ.get("GET_HOSTS_FROM") == "env":
        name = os.environ[f"REDIS_{role.upper()}_SERVICE_HOST"]
    question = b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(w), w) for w in map(str.encode, words))
    with socket.create_connection((name, 6379), timeout=10) as redis, redis.makefile("rb") as answer:
        redis.sendall(question)
        kind = answer.readline().strip()
        if kind[:1] != b"$":
            return kind.decode()
        return answer.read(int(kind[1:])).decode() if kind != b"$-1" else ""

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        kind, code = "application/json", 200
        if url.path == "/":
            kind, text = "text/html", "<html><head><title>Guestbook</title></head></html>"
        elif url.path != "/guestbook.php":
            code, text = 404, "{}"
        elif query["cmd"] == "set":
            text = json.dumps({"message": ask("master", "SET", query["key"], query["value"])})
        else:
            text = json.dumps({"data": ask("replica", "GET", query["key"])})
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()
"""
_OPEN = ("redis-server", "--protected-mode", "no", "--save", "")


def guestbook() -> list[BuiltImage]:
    """Return the three images, with the names in the guestbook's manifests."""
    return [
        debianimages.redis("registry.k8s.io/redis:e2e", *_OPEN),
        debianimages.redis("gcr.io/google_samples/gb-redisslave:v1", *_OPEN, "--replicaof", "redis-master", "6379"),
        # The original is Apache, which starts as root to listen at port 80.
        debianimages.python("gcr.io/google-samples/gb-frontend:v5", {"frontend": _FRONTEND}, Cmd=["frontend"], User=""),
    ]
