module.exports = {
  uiHost: process.env.BIND,
  flowFile: "flows.json",
  credentialSecret: "none",
  telemetry: { enabled: false, updateNotification: false },
  editorTheme: { tours: false, projects: { enabled: false } },
};
