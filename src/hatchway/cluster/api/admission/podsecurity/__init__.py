"""Pod Security admission: the Pod Security Standards, for namespaces whose labels name a level."""
