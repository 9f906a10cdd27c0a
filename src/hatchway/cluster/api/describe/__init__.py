"""Discovery, OpenAPI, and objects shown as tables; imports the registry."""
