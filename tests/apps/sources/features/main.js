const results = (window.results = {});
const text = async (url, options) => (await fetch(url, options)).text();
const json = async (url, options) => (await fetch(url, options)).json();
const message = target => new Promise(done => target.addEventListener("message", event => done(event.data), { once: true }));

const tries = {
  nonce: () => window.nonced === true,
  isolated: () => crossOriginIsolated && new SharedArrayBuffer(8).byteLength === 8,
  worker: async () => (await message(new Worker("/worker.js"))) === "/landed?from=worker",
  "module worker": async () => (await message(new Worker("/module-worker.js", { type: "module" }))) === "deeper /x",
  "shared worker": async () => {
    const { port } = new SharedWorker("/shared-worker.js");
    port.start();
    return (await message(port)) === "/landed?from=shared";
  },
  "import map": async () => (await import("library")).default === "library",
  "lazy chunk": async () => (await import("/chunks/" + "later.js")).default === "deeper",
  wasm: async () => (await WebAssembly.instantiateStreaming(fetch("/add.wasm"))).instance.exports.add() === 42,
  cookies: async () => {
    document.cookie = "scripted=1; Path=/";
    const names = await json("/cookies");
    const deep = await json("/deep/cookies");
    const seen = document.cookie;
    return (
      ["__Host-safe", "__Secure-one", "hidden", "plain", "scripted"].every(name => names.includes(name)) &&
      !names.includes("deep") &&
      deep.includes("deep") &&
      seen.includes("plain=1") &&
      !seen.includes("hidden")
    );
  },
  "event stream": async () => {
    const source = new EventSource("/events");
    const first = await message(source);
    source.close();
    return first === "0";
  },
  "streamed answer": async () => {
    const reader = (await fetch("/slow")).body.getReader();
    const begun = performance.now();
    const first = new TextDecoder().decode((await reader.read()).value);
    return first === "0" && performance.now() - begun < 280;
  },
  websocket: async () => {
    const socket = new WebSocket("/socket?room=a%20b", ["chat.v2", "chat.v1"]);
    await new Promise(done => (socket.onopen = done));
    socket.send("hello");
    return (await message(socket)) === "a b chat.v2 hello" && socket.protocol === "chat.v2";
  },
  range: async () => {
    const answer = await fetch("/media", { headers: { Range: "bytes=256-511" } });
    return answer.status === 206 && new Uint8Array(await answer.arrayBuffer())[1] === 1;
  },
  upload: async () => (await json("/upload", { method: "PUT", body: new Blob([new Uint8Array(3 << 20)]) })).size === 3 << 20,
  redirect: async () => {
    const one = await fetch("/away?from=fetch");
    const two = await fetch("/absolute");
    return (await one.text()) === "/landed?from=fetch" && (await two.text()) === "/landed?from=absolute" && new URL(one.url).pathname === "/landed";
  },
  "form data": async () => {
    const data = new FormData();
    data.set("name", "Ada");
    data.set("file", new File(["42"], "a.txt"));
    const got = await json("/form", { method: "POST", body: data });
    return got.name === "Ada" && got.file === "42";
  },
  head: async () => (await fetch("/media", { method: "HEAD" })).ok,
  router: () => {
    if (!["/", "/app/inner"].includes(location.pathname)) return location.pathname;
    history.pushState({}, "", "/app/inner?q=1");
    return location.pathname === "/app/inner" && location.search === "?q=1";
  },
  blob: async () => {
    const url = URL.createObjectURL(new Blob(["postMessage(42)"], { type: "text/javascript" }));
    return (await message(new Worker(url))) === 42;
  },
  frame: async () => {
    const frame = document.createElement("iframe");
    const said = message(window);
    frame.src = "/inner";
    document.body.append(frame);
    return (await said) === "inner /inner";
  },
  "css url": async () => {
    const style = getComputedStyle(document.querySelector("#styled"));
    const picture = new Image();
    picture.src = style.backgroundImage.slice(5, -2);
    await picture.decode();
    return style.color === "rgb(1, 2, 3)";
  },
  srcset: async () => {
    const picture = document.querySelector("#set");
    await picture.decode();
    return picture.naturalWidth === 1;
  },
  "html in text": async () => (await text("/text")) === '<a href="/stays">said, not shown</a>',
  beacon: async () => {
    const word = String(Math.random());
    navigator.sendBeacon("/beacon", word);
    for (let tries = 0; tries < 50; tries++) {
      if ((await json("/beacons")).includes(word)) return true;
      await new Promise(done => setTimeout(done, 50));
    }
    return false;
  },
  storage: () => {
    localStorage.setItem("answer", "42");
    return localStorage.getItem("answer") === "42";
  },
  "request object": async () => (await text(new Request("/landed?from=request", { method: "GET" }))) === "/landed?from=request",
  "trailing dots": async () => (await text("/dots/a%2Fb/c%20d/?x=%2F")) === "/dots/a%2Fb/c%20d/?x=%2F",
};

for (const [name, attempt] of Object.entries(tries)) {
  try {
    const late = new Promise(done => setTimeout(done, 5000, "late"));
    const found = await Promise.race([attempt(), late]);
    results[name] = found === true ? "ok" : `not ok: ${found}`;
  } catch (error) {
    results[name] = String(error);
  }
}
document.documentElement.dataset.done = "yes";
