// node_modules is a link to a shared directory, which is not to be written to.
export default { cacheDir: ".vite", server: { fs: { strict: false } }, clearScreen: false };
