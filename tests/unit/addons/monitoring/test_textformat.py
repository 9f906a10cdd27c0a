"""The text formats are parsed as Prometheus parses them; all other text is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.addons.monitoring.scrape.textformat import ExpositionError, ExpositionParser, parse_series

TEXT = """\
# HELP http_requests_total The total number of "requests", with \\\\ and\\na line break.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400",}    3 1395066363000

# A comment.
# TYPE old untyped
msdos_file_access_time_seconds{path="C:\\\\DIR\\\\FILE.TXT",error="Cannot find file:\\n\\"FILE.TXT\\""} 1.458255915e9
metric_without_timestamp_and_labels 12.47
something_weird{problem="division by zero"} +Inf -3982045
spaces { a = "b" , c="} 1 2" } 5
colon:metric NaN
inf -Inf\r
tab\t7\t8
exponent 1e-3
"""


def test_the_text_format_is_read() -> None:
    parser = ExpositionParser()
    found = [(parse_series(one.series), one.value, one.time) for one in parser.samples(TEXT)]
    shown = [(dict(pairs), value, time) for pairs, value, time in found]
    assert shown[0] == ({"__name__": "http_requests_total", "method": "post", "code": "200"}, 1027, 1395066363000)
    assert shown[1][0]["code"] == "400"
    assert shown[2][0]["path"] == "C:\\DIR\\FILE.TXT" and shown[2][0]["error"] == 'Cannot find file:\n"FILE.TXT"'
    assert shown[3] == ({"__name__": "metric_without_timestamp_and_labels"}, 12.47, None)
    assert shown[4][1:] == (math.inf, -3982045)
    assert shown[5] == ({"__name__": "spaces", "a": "b", "c": "} 1 2"}, 5, None)
    assert math.isnan(shown[6][1]) and shown[7][1] == -math.inf
    assert shown[8] == ({"__name__": "tab"}, 7, 8) and shown[9][1] == 0.001
    facts = parser.facts["http_requests_total"]
    assert facts.type == "counter"
    assert facts.help == 'The total number of "requests", with \\ and\na line break.'
    assert parser.facts["old"].type == "unknown"


def test_openmetrics_is_read() -> None:
    parser = ExpositionParser(openmetrics=True)
    text = (
        "# TYPE latency histogram\n# UNIT latency seconds\n"
        'latency_bucket{le="0.1"} 8 # {trace_id="abc} 5"} 0.05 1520879607.7\n'
        'latency_bucket{path=" # {",le="+Inf"} 10 1520879607.789\n'
        "requests_total 17 # {} 1\n# EOF\n"
    )
    found = [(one.series, one.value, one.time) for one in parser.samples(text)]
    assert found == [
        ('latency_bucket{le="0.1"}', 8, None),
        ('latency_bucket{path=" # {",le="+Inf"}', 10, 1520879607789),
        ("requests_total", 17, None),
    ]
    assert parser.facts["latency"].unit == "seconds"


@pytest.mark.parametrize("text", ["a 1\n", "a 1\n# EOF\nb 2\n"])
def test_openmetrics_must_end_with_eof(text: str) -> None:
    with pytest.raises(ExpositionError, match="EOF"):
        list(ExpositionParser(openmetrics=True).samples(text))


@pytest.mark.parametrize(
    "line",
    ["a", "a{} ", "a x", "a 1 x", "a 1 2 3", "a 1_0", "a 1 nan", "a 1 1e300", "<html>", "{", "a{b}"],
)
def test_other_text_is_an_error_with_its_line(line: str) -> None:
    with pytest.raises(ExpositionError, match="line 2"):
        list(ExpositionParser().samples(f"ok 1\n{line}\n"))


@pytest.mark.parametrize("series", ['a{1b="c"}', 'a{b="c",b="d"}', "1a", '{b="c"}', 'a{b="c"}x', "a{b='c'}", 'a{b="c"'])
def test_other_series_are_errors(series: str) -> None:
    with pytest.raises(ExpositionError):
        parse_series(series)


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True), st.text(max_size=20), max_size=5))
def test_every_label_value_is_read_as_it_was_written(labels: dict[str, str]) -> None:
    labels = {name: value.replace("\r", "") for name, value in labels.items() if name != "__name__"}
    escaped = {k: v.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"') for k, v in labels.items()}
    text = "m{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "} 1\n"
    (sample,) = ExpositionParser().samples(text)
    assert dict(parse_series(sample.series)) == {"__name__": "m", **labels}


@given(st.text(max_size=60))
def test_any_text_is_samples_or_an_error(text: str) -> None:
    try:
        for sample in ExpositionParser().samples(text):
            parse_series(sample.series)
    except ExpositionError as error:
        assert len(str(error)) < 500


def test_a_text_of_only_comments_has_a_maximum_length() -> None:
    with pytest.raises(ExpositionError, match="lines"):
        list(ExpositionParser().samples("#\n" * 300_000))
    parser = ExpositionParser()
    for begin in range(5):
        list(parser.samples("".join(f"# HELP m_{begin}_{place} x\n" for place in range(15_000))))
    assert len(parser.facts) <= 20_000
