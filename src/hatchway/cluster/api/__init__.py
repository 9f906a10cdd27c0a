"""The API server. docs/architecture.md lists its rooms from the top down."""
