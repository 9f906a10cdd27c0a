import fs from "node:fs";
import http from "node:http";
import { FileStore } from "@tus/file-store";
import { Server } from "@tus/server";

const tus = new Server({ path: "/files", datastore: new FileStore({ directory: "./uploads" }), respectForwardedHeaders: true });
const page = `<!doctype html><title>upload</title><script src="/tus.js"></script>
<script>
  const upload = (text, chunkSize) =>
    new Promise((done, failed) => {
      const upload = new tus.Upload(new Blob([text]), {
        endpoint: "/files/",
        chunkSize,
        onError: error => failed(error),
        onSuccess: () => ((window.uploaded = upload.url), done("done")),
      });
      upload.start();
    });
</script>`;
http
  .createServer((request, response) => {
    if (request.url.startsWith("/files")) return tus.handle(request, response);
    if (request.url === "/tus.js") return fs.createReadStream("node_modules/tus-js-client/dist/tus.min.js").pipe(response);
    response.setHeader("Content-Type", "text/html");
    response.end(page);
  })
  .listen(process.env.PORT, process.env.BIND);
