import { h } from "vue";
import { useRoute } from "vue-router";

export default { setup: () => () => h("h1", `User ${useRoute().params.name}`) };
