// webSocketURL: as for webpack-dev-server; by default the page connects to the server's own address.
module.exports = {
  parallel: false,
  chainWebpack: (config) => config.resolve.symlinks(false),
  devServer: { client: { webSocketURL: "auto://0.0.0.0:0/ws", progress: false } },
};
