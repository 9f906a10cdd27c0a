"""Discovery, OpenAPI, and objects shown as tables. It imports only the registry."""
