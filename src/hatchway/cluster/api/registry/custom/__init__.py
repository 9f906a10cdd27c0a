"""Types that CustomResourceDefinitions define: their schemas, the rules of their objects, and their rows."""
