import { createApp, h } from "vue";
import { createRouter, createWebHistory, RouterLink, RouterView } from "vue-router";
import Home from "./home";

const routes = [
  { path: "/", component: Home },
  { path: "/users/:name", component: () => import("./user") },
  { path: "/:rest(.*)*", component: { render: () => h("h1", "no such page") } },
];
const router = createRouter({ history: createWebHistory(process.env.BASE_URL), routes });
const App = { render: () => [h(RouterLink, { to: "/users/ada" }, () => "ada"), h(RouterView)] };
createApp(App).use(router).mount("#app");
