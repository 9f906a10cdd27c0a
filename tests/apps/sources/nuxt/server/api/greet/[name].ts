export default defineEventHandler((event) => ({ text: `User ${getRouterParam(event, "name")}` }));
