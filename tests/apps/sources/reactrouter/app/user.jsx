export const loader = ({ params }) => ({ name: params.name });

export default function User({ loaderData }) {
  return <h1>User {loaderData.name}</h1>;
}
