import React from "react";
import { createRoot } from "react-dom/client";
import { createBrowserRouter, Link, Outlet, RouterProvider, useParams } from "react-router-dom";

const User = () => <h1>User {useParams().name}</h1>;
const App = () => (
  <>
    <Link to="/users/ada">ada</Link>
    <Outlet />
  </>
);
const router = createBrowserRouter([
  {
    element: <App />,
    children: [
      { path: "/", element: <h1>Home</h1> },
      { path: "/users/:name", element: <User /> },
    ],
  },
]);
createRoot(document.getElementById("root")).render(<RouterProvider router={router} />);
