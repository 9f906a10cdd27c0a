"""The columns and cells of `kubectl get` for each type. A type's row in the registry names its printer."""
