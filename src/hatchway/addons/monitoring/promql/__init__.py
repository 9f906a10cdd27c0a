"""PromQL as in Prometheus 2.42: lexer, parser, check of types, evaluator. Pure: samples come from a `Queryable`."""
