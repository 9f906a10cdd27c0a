// allowedHosts: both servers refuse names that they do not know.
export default {
  stories: ["../src/**/*.stories.js"],
  framework: { name: "@storybook/html-vite" },
  core: { disableTelemetry: true, allowedHosts: true },
  viteFinal: (config) => ({ ...config, server: { ...config.server, allowedHosts: true } }),
};
