export default { title: "Site", themeConfig: { sidebar: [{ text: "First", link: "/guide/first" }], search: { provider: "local" } } };
