// Its own default for the WebSocket of changes: the address of the machine that it runs on, here the pod's.
module.exports = {
  parallel: false,
  chainWebpack: (config) => config.resolve.symlinks(false),
  devServer: { client: { progress: false } },
};
