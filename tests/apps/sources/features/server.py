"""All paths are absolute, as in an application that knows of no prefix."""

import asyncio
import base64
import secrets
import sys
from pathlib import Path

from aiohttp import web

HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
PIXEL = base64.b64decode("R0lGODlhAQABAIAAAP///wAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
WASM = bytes.fromhex("0061736d010000000105016000017f030201000707010361646400000a06010400412a0b")
PAGE = Path("page.html").read_text()
MEDIA = bytes(range(256)) * 1000


async def page(request):
    nonce = secrets.token_urlsafe(12)
    text = PAGE.replace("NONCE", nonce)
    policy = f"script-src 'nonce-{nonce}' 'strict-dynamic' 'wasm-unsafe-eval'; object-src 'none'; base-uri 'none'"
    answer = web.Response(text=text, content_type="text/html", headers={**HEADERS, "Content-Security-Policy": policy})
    answer.set_cookie("plain", "1")
    answer.set_cookie("deep", "1", path="/deep")
    answer.set_cookie("hidden", "1", httponly=True, samesite="Strict")
    answer.headers.add("Set-Cookie", "__Host-safe=1; Secure; Path=/; HttpOnly")
    answer.headers.add("Set-Cookie", "__Secure-one=1; Secure; Path=/")
    return answer


def script(text):
    async def answer(_):
        return web.Response(text=text, content_type="text/javascript", headers=HEADERS)

    return answer


async def cookies(request):
    return web.json_response(sorted(request.cookies))


async def events(request):
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await answer.prepare(request)
    for number in range(3):
        await answer.write(f"id: {number}\ndata: {number}\n\n".encode())
        await asyncio.sleep(0.05)
    await asyncio.sleep(5)
    return answer


async def slow(request):
    answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await answer.prepare(request)
    for number in range(3):
        await answer.write(str(number).encode())
        await asyncio.sleep(0.3)
    return answer


async def socket(request):
    answer = web.WebSocketResponse(protocols=("chat.v2", "chat.v1"))
    await answer.prepare(request)
    async for message in answer:
        await answer.send_str(f"{request.query['room']} {answer.ws_protocol} {message.data}")
    return answer


async def media(request):
    return web.Response(body=MEDIA[slice(*(request.http_range.start, request.http_range.stop))], status=206)


async def upload(request):
    return web.json_response({"size": len(await request.read()), "type": request.headers.get("Content-Type")})


async def form(request):
    found = await request.post()
    return web.json_response({"name": found["name"], "file": found["file"].file.read().decode()})


async def post(request):
    return web.HTTPSeeOther("/posted?text=" + (await request.post())["text"].replace(" ", "+"))


async def posted(request):
    return web.Response(text=f"<p>posted {request.query['text']}</p>", content_type="text/html", headers=HEADERS)


async def away(request):
    return web.HTTPFound("/landed?from=" + request.query["from"])


async def landed(request):
    return web.Response(text=request.path_qs)


async def absolute(request):
    return web.HTTPFound(f"{request.scheme}://{request.host}/landed?from=absolute")


async def file(_):
    return web.Response(text="42", headers={"Content-Disposition": 'attachment; filename="answer.txt"'})


async def inner(_):
    return web.Response(
        text="<script>parent.postMessage('inner ' + location.pathname, '*')</script>",
        content_type="text/html",
        headers=HEADERS,
    )


async def text(_):
    return web.Response(text='<a href="/stays">said, not shown</a>', content_type="text/plain")


async def picture(_):
    return web.Response(body=PIXEL, content_type="image/gif", headers={"Cross-Origin-Resource-Policy": "same-origin"})


async def style(_):
    return web.Response(
        text="#styled { background-image: url(/picture.gif); color: rgb(1, 2, 3) }", content_type="text/css"
    )


async def wasm(_):
    return web.Response(body=WASM, content_type="application/wasm")


async def beacon(request):
    request.app["beacons"].append(await request.text())
    return web.Response(status=204)


async def beacons(request):
    return web.json_response(request.app["beacons"])


async def dots(request):
    return web.Response(text=request.raw_path)


app = web.Application(client_max_size=64 << 20)
app["beacons"] = []
app.router.add_get("/", page)
app.router.add_get("/app/{rest:.*}", page)
app.router.add_get("/main.js", script(Path("main.js").read_text()))
app.router.add_get("/chunks/later.js", script('export { default } from "/chunks/deeper.js";'))
app.router.add_get("/chunks/deeper.js", script('export default "deeper";'))
app.router.add_get("/library.js", script('export default "library";'))
app.router.add_get(
    "/worker.js",
    script("importScripts('/part.js'); fetch('/landed?from=worker').then(r => r.text()).then(postMessage);"),
)
app.router.add_get("/part.js", script("self.part = 1;"))
app.router.add_get(
    "/module-worker.js",
    script('import value from "/chunks/later.js"; postMessage(value + " " + new URL("/x", location.origin).pathname);'),
)
app.router.add_get(
    "/shared-worker.js",
    script("onconnect = e => fetch('/landed?from=shared').then(r => r.text()).then(t => e.ports[0].postMessage(t));"),
)
for path, handler in {
    "/cookies": cookies, "/deep/cookies": cookies, "/events": events, "/slow": slow, "/socket": socket,
    "/media": media, "/away": away, "/landed": landed, "/absolute": absolute, "/file": file, "/inner": inner,
    "/text": text, "/picture.gif": picture, "/style.css": style, "/add.wasm": wasm, "/beacons": beacons,
    "/posted": posted, "/dots/{rest:.*}": dots,
}.items():  # fmt: skip
    app.router.add_get(path, handler)
for path, handler in {"/upload": upload, "/form": form, "/post": post, "/beacon": beacon}.items():
    app.router.add_post(path, handler)
app.router.add_put("/upload", upload)

if __name__ == "__main__":
    web.run_app(app, host=sys.argv[1], port=int(sys.argv[2]), print=None)
