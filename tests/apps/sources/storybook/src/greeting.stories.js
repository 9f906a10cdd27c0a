export default { title: "Greeting", render: ({ name }) => `<p>Hello ${name}</p>` };
export const First = { args: { name: "Ada" } };
export const Second = { args: { name: "Grace" } };
