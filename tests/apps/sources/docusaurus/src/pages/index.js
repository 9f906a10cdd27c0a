import Link from "@docusaurus/Link";
import React from "react";

export default () => <Link to="/docs/first">The guide</Link>;
