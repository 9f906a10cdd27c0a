// As people have it: the page connects to the port that the server itself listens on.
module.exports = {
  mode: "development",
  entry: "./src/main.js",
  output: { publicPath: "/", path: __dirname + "/dist" },
  resolve: { symlinks: false },
  devServer: { static: "./public", hot: true, client: { overlay: false } },
};
