"""Discovery, OpenAPI, and objects shown as tables. This package imports only the registry."""
