"""Stand-ins for the images of Buoyant's emojivoto: the same programs, names and settings, with JSON in place of gRPC."""

from __future__ import annotations

from tests.images import debianimages
from tests.images.making import BuiltImage

_START = """\
#!/usr/bin/python3
import http.server, json, os, threading, time, urllib.error, urllib.parse, urllib.request

def ask(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
        return json.load(answer)

def serve(port, answers):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            url = urllib.parse.urlsplit(self.path)
            try:
                found, code = answers[url.path](dict(urllib.parse.parse_qsl(url.query))), 200
            except KeyError:
                found, code = {"error": "not found"}, 404
            except urllib.error.URLError as error:
                found, code = {"error": str(error)}, 503
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())
        def log_message(self, *_):
            pass
    http.server.ThreadingHTTPServer(("", int(port)), Handler).serve_forever()

ready = {"/ready": lambda _: "ok"}
"""
_EMOJI = """
names = os.environ.get("EMOJI", "doughnut").split(",")
serve(os.environ["GRPC_PORT"], {**ready, "/list": lambda _: names})
"""
_VOTING = """
votes = {}
def vote(query):
    votes[query["choice"]] = votes.get(query["choice"], 0) + 1
    return votes
prom = {"/metrics": lambda _: {"votes_total": sum(votes.values())}}
threading.Thread(target=serve, args=(os.environ["PROM_PORT"], prom), daemon=True).start()
serve(os.environ["GRPC_PORT"], {**ready, "/vote": vote, "/results": lambda _: votes})
"""
_WEB = """
emoji, voting = os.environ["EMOJISVC_HOST"], os.environ["VOTINGSVC_HOST"]
def vote(query):
    if query["choice"] not in ask(emoji, "/list"):
        raise KeyError
    return ask(voting, "/vote?choice=" + urllib.parse.quote(query["choice"]))
serve(os.environ["WEB_PORT"], {
    **ready,
    "/api/list": lambda _: ask(emoji, "/list"),
    "/api/vote": vote,
    "/api/leaderboard": lambda _: ask(voting, "/results"),
})
"""
_BOT = """
while True:
    try:
        for choice in ask(os.environ["WEB_HOST"], "/api/list"):
            ask(os.environ["WEB_HOST"], "/api/vote?choice=" + choice)
            print("voted for", choice, flush=True)
    except OSError as error:
        print("not yet:", error, flush=True)
    time.sleep(0.5)
"""


def emojivoto() -> list[BuiltImage]:
    """Return the three images, with the names in emojivoto's manifests. The bot is a program of the web image."""
    prefix, programs = "docker.l5d.io/buoyantio/emojivoto", {"emoji-svc": _EMOJI, "voting-svc": _VOTING, "web": _WEB}
    made = []
    for name, text in programs.items():
        files = {f"emojivoto-{name}": _START + text}
        if name == "web":
            files["emojivoto-vote-bot"] = _START + _BOT
        made.append(debianimages.python(f"{prefix}-{name}:v11", files, Cmd=[f"emojivoto-{name}"], User=""))
    return made
