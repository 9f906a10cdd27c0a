export default { cacheDir: ".astro-cache", vite: { cacheDir: ".vite", server: { fs: { strict: false } } }, devToolbar: { enabled: false } };
