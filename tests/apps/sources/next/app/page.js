"use client";
import Link from "next/link";
import { useState } from "react";

export default function Page() {
  const [count, setCount] = useState(0);
  return (
    <>
      <button onClick={() => setCount(count + 1)}>first: {count}</button>
      <Link href="/about">about</Link>
    </>
  );
}
