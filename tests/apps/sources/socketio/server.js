const http = require("http");
const { Server } = require("socket.io");

const page = `<!doctype html><title>chat</title>
<form><input name=text><button>Say</button></form><ul></ul>
<script src="/socket.io/socket.io.js"></script>
<script>
  var socket = io();
  socket.on("connect", () => (document.title = "connected"));
  socket.on("said", text => document.querySelector("ul").append(Object.assign(document.createElement("li"), { textContent: text })));
  document.querySelector("form").onsubmit = event => {
    event.preventDefault();
    socket.emit("say", event.target.text.value);
  };
</script>`;

const server = http.createServer((request, response) => {
  response.setHeader("Content-Type", "text/html");
  response.end(page);
});
new Server(server).on("connection", socket => socket.on("say", text => socket.emit("said", text.toUpperCase())));
server.listen(process.env.PORT, process.env.BIND);
