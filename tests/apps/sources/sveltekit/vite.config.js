import { sveltekit } from "@sveltejs/kit/vite";

export default { plugins: [sveltekit()], resolve: { preserveSymlinks: false }, server: { fs: { strict: false } } };
