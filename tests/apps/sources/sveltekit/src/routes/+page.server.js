export const actions = {
  default: async ({ request }) => ({ what: (await request.formData()).get("what") }),
};
