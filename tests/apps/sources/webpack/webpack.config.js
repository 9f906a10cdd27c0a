// webSocketURL: what webpack's documentation says for a server behind a proxy; by default the page connects to the port
// that the server itself listens on.
module.exports = {
  mode: "development",
  entry: "./src/main.js",
  output: { publicPath: "/", path: __dirname + "/dist" },
  resolve: { symlinks: false },
  devServer: { static: "./public", hot: true, client: { overlay: false, webSocketURL: "auto://0.0.0.0:0/ws" } },
};
