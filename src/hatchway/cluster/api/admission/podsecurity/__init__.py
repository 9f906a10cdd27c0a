"""Pod Security admission: applies the Pod Security Standards in namespaces whose labels name a level."""
