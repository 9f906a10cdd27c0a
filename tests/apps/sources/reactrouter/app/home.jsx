import { useState } from "react";
import { Form, Link, useActionData } from "react-router";

export async function action({ request }) {
  return { what: (await request.formData()).get("what") };
}

export default function Home() {
  const [count, setCount] = useState(0);
  const done = useActionData();
  return (
    <main>
      <h1>Home</h1>
      <button onClick={() => setCount(count + 1)}>pressed {count}</button>
      <Link to="/users/ada">ada</Link>
      <Form method="post">
        <input name="what" />
        <button>Send</button>
      </Form>
      {done && <p>received {done.what}</p>}
    </main>
  );
}
