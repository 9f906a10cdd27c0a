"""The columns and cells of `kubectl get` for each type; a row of the registry names its printer."""
