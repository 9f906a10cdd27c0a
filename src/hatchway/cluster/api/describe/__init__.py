"""Discovery, OpenAPI, and objects shown as tables. It imports the registry."""
