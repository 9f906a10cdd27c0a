import asyncio
import sys

import tornado.web
import tornado.websocket

CHAT = """<!doctype html><title>closed</title><h1>Chat of {{ user }}</h1>
<form><input name=text><button>Say</button></form><ul></ul>
<script>
  const socket = new WebSocket((location.protocol === "https:" ? "wss://" : "ws://") + location.host +
    "/socket?from=page");
  socket.onopen = () => (document.title = "open");
  socket.onmessage = event =>
    document.querySelector("ul").append(Object.assign(document.createElement("li"), { textContent: event.data }));
  document.querySelector("form").onsubmit = event => {
    event.preventDefault();
    socket.send(event.target.text.value);
  };
</script>"""
LOGIN = """<!doctype html><title>Log in</title>
<form method=post>{% module xsrf_form_html() %}<input name=user><button>Log in</button></form>"""


class Handler(tornado.web.RequestHandler):
    def get_current_user(self):
        return self.get_signed_cookie("user")

    def show(self, source, **values):
        self.finish(tornado.template.Template(source).generate(**self.get_template_namespace(), **values))


class Chat(Handler):
    @tornado.web.authenticated
    def get(self):
        self.show(CHAT, user=self.current_user.decode())


class Login(Handler):
    def get(self):
        self.show(LOGIN.replace("{% module xsrf_form_html() %}", "{% raw xsrf_form_html() %}"))

    def post(self):
        self.set_signed_cookie("user", self.get_argument("user"))
        self.redirect(self.get_argument("next", "/"))


class Socket(tornado.websocket.WebSocketHandler):
    # check_origin() is Tornado's default: the host in Origin must be the request's Host.
    def open(self):
        user = self.get_signed_cookie("user")
        if user is None or self.get_argument("from") != "page":
            self.close(4001)
        self.user = user

    def on_message(self, message):
        self.write_message(f"{self.user.decode()}: {message}")


async def main():
    rules = [("/", Chat), ("/login", Login), ("/socket", Socket)]
    application = tornado.web.Application(rules, cookie_secret="not a secret", login_url="/login", xsrf_cookies=True)
    application.listen(int(sys.argv[2]), sys.argv[1])
    await asyncio.Event().wait()


asyncio.run(main())
