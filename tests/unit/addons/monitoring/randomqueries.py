"""Random valid queries about the samples of `dataset`, with operands of the right types."""

from __future__ import annotations

from hypothesis import strategies as st

_selectors = st.sampled_from(
    [
        "up",
        "special",
        "gappy",
        'http_requests_total{code!="200"}',
        "temperature",
        "odd_bucket",
        "nothing",
        "memory_bytes",
    ]
)
_numbers = st.sampled_from(
    ["0", "1", "-1", "0.5", "2", "1e300", "Inf", "NaN", "1e-300", "time()", "pi()", "scalar(up)"]
)
_modifiers = st.sampled_from(["", "", "", " offset 5m", " offset -3m", " @ 1700003000", " @ 1700003000 offset 2m"])
_durations = st.sampled_from(["15s", "1m", "5m", "13m", "1h"])
_plain = ["abs", "ceil", "exp", "floor", "ln", "log2", "sqrt", "sgn", "round", "sin", "acosh", "atanh", "sinh", "timestamp",
          "day_of_month", "days_in_month", "day_of_week", "day_of_year", "hour", "year", "month", "absent", "deg"]  # fmt: skip
_over = ["rate", "increase", "delta", "irate", "idelta", "deriv", "changes", "resets", "avg_over_time", "min_over_time",
         "max_over_time", "sum_over_time", "count_over_time", "last_over_time", "stddev_over_time", "stdvar_over_time",
         "present_over_time", "absent_over_time"]  # fmt: skip
_groups = st.sampled_from(["", " by (job)", " by (kind)", " without (instance)", " by (le)"])
_matchings = st.sampled_from(["", " on (job, instance)", " ignoring (code)", " on (kind)", " on ()"])


def _ranges(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    plain = st.builds("{}[{}]{}".format, _selectors, _durations, _modifiers)
    return plain | st.builds("({})[{}:{}]{}".format, inner, _durations, st.sampled_from(["", "1m", "37s"]), _modifiers)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{}({})".format, st.sampled_from(_plain), inner),
        st.builds("{}({})".format, st.sampled_from(_over), _ranges(inner)),
        st.builds("quantile_over_time({}, {})".format, _numbers, _ranges(inner)),
        st.builds("predict_linear({}, {})".format, _ranges(inner), _numbers),
        st.builds("holt_winters({}, {}, {})".format, _ranges(inner), _numbers, _numbers),
        st.builds("histogram_quantile({}, {})".format, _numbers, inner),
        st.builds("clamp({}, {}, {})".format, inner, _numbers, _numbers),
        st.builds("round({}, {})".format, inner, _numbers),
        st.builds('label_replace({}, "job", "$1", "instance", "(.*):.*")'.format, inner),
        st.builds("{}{}({})".format, st.sampled_from(["sum", "avg", "min", "max", "count", "stddev", "group"]), _groups, inner),
        st.builds("{}{}({}, {})".format, st.sampled_from(["topk", "bottomk", "quantile"]), _groups, _numbers, inner),
        st.builds('count_values{}("value", {})'.format, _groups, inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "/", "%", "^", "atan2", "> bool", "=="]), _numbers),
        st.builds("({} {} {})".format, _numbers, st.sampled_from(["-", "/", "^", "<", ">= bool"]), inner),
        st.builds("({} {}{} {})".format, inner, st.sampled_from(["+", "/", "^", ">", "== bool", "and", "or", "unless"]), _matchings, inner),
        st.builds("({} *{} group_left () {})".format, inner, st.sampled_from([" on (job)", " ignoring (code)"]), inner),
        st.builds("-{}".format, inner),
    )  # fmt: skip


QUERIES = st.recursive(st.builds("{}{}".format, _selectors, _modifiers), _larger, max_leaves=4)
