"""The signatures of PromQL's functions (`promql/parser/functions.go` of Prometheus 2.42)."""

from __future__ import annotations

from hatchway.addons.monitoring.promql.nodes import Function, ValueType


def _functions() -> dict[str, Function]:
    found: dict[str, Function] = {}

    def add(names: str, *arguments: ValueType, returns: ValueType = "vector", variadic: int = 0) -> None:
        for name in names.split():
            found[name] = Function(name, arguments, returns, variadic)

    add("abs ceil exp floor ln log10 log2 sgn sqrt deg rad", "vector")
    add("acos acosh asin asinh atan atanh cos cosh sin sinh tan tanh", "vector")
    add("absent sort sort_desc timestamp histogram_count histogram_sum", "vector")
    add("rate irate increase delta idelta deriv changes resets absent_over_time", "matrix")
    add("avg_over_time count_over_time last_over_time max_over_time min_over_time", "matrix")
    add("present_over_time stddev_over_time stdvar_over_time sum_over_time", "matrix")
    add("quantile_over_time", "scalar", "matrix")
    add("predict_linear", "matrix", "scalar")
    add("holt_winters", "matrix", "scalar", "scalar")
    add("clamp", "vector", "scalar", "scalar")
    add("clamp_max clamp_min", "vector", "scalar")
    add("round", "vector", "scalar", variadic=1)
    add("days_in_month day_of_month day_of_week day_of_year hour minute month year", "vector", variadic=1)
    add("histogram_quantile", "scalar", "vector")
    add("histogram_fraction", "scalar", "scalar", "vector")
    add("label_replace", "vector", "string", "string", "string", "string")
    add("label_join", "vector", "string", "string", "string", variadic=-1)
    add("pi time", returns="scalar")
    add("scalar", "vector", returns="scalar")
    add("vector", "scalar")
    return found


FUNCTIONS = _functions()
