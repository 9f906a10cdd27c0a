"""Label and field selectors: Kubernetes' grammar and errors, and the meaning of every operator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.registry.selectors import (
    LabelSelector,
    Requirement,
    format_label_selector,
    label_selector_matches,
    parse_field_selector,
    parse_label_selector,
)
from hatchway.errors import ApiError


@pytest.mark.parametrize(
    ("selector", "labels", "wanted"),
    [
        ("", {}, True),
        ("a", {"a": ""}, True),
        ("a", {"b": "1"}, False),
        ("!a", {"b": "1"}, True),
        ("! a", {"a": "1"}, False),
        ("a=1", {"a": "1"}, True),
        ("a==1", {"a": "2"}, False),
        ("a=", {"a": ""}, True),
        ("a!=1", {}, True),
        ("a!=1", {"a": "1"}, False),
        ("a in (x, y)", {"a": "y"}, True),
        ("a in (x, y)", {}, False),
        ("a in (,x)", {"a": ""}, True),
        ("a in ()", {"a": ""}, True),
        ("a notin (x)", {}, True),
        ("a notin (x)", {"a": "x"}, False),
        ("in in (in)", {"in": "in"}, True),
        ("a>1", {"a": "2"}, True),
        ("a>1", {"a": "x"}, False),
        ("a<1", {"a": "0"}, True),
        ("a=1,b in (2),!c", {"a": "1", "b": "2"}, True),
        ("a=1,b in (2),!c", {"a": "1", "b": "2", "c": ""}, False),
        ("kubernetes.io/name=x", {"kubernetes.io/name": "x"}, True),
    ],
)
def test_label_selectors(selector: str, labels: dict[str, str], wanted: bool) -> None:
    assert parse_label_selector(selector).matches(labels) is wanted


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("app===x", "unable to parse requirement: found '=', expected: identifier"),
        ("a,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in x", "unable to parse requirement: found 'x' expected: '('"),
        ("a in (x y)", "unable to parse requirement: found 'y', expected: ',' or ')'"),
        ("a=1 b", "found 'b', expected: ',' or 'end of string'"),
    ],
)
def test_label_selector_errors(selector: str, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_label_selector(selector)
    assert (caught.value.code, caught.value.message) == (400, message)


@pytest.mark.parametrize(
    "selector", ["-a=1", "a=-", "a>x", "a in (x", "a=(", "!", "a=" + "x" * 64, "a/b/c=1", "a in (-)"]
)
def test_more_invalid_label_selectors(selector: str) -> None:
    with pytest.raises(ApiError):
        parse_label_selector(selector)


_word = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,8}[A-Za-z0-9])?", fullmatch=True)
_requirements = st.one_of(
    st.builds(Requirement, _word, st.sampled_from(["exists", "!"])),
    st.builds(Requirement, _word, st.sampled_from(["in", "notin"]), st.frozensets(_word, min_size=1, max_size=3)),
    st.builds(
        Requirement, _word, st.sampled_from(["gt", "lt"]), st.integers(0, 99).map(lambda n: frozenset((str(n),)))
    ),
)


@given(st.lists(_requirements, max_size=4))
def test_a_formatted_selector_can_be_parsed(requirements: list[Requirement]) -> None:
    selector = LabelSelector(tuple(sorted(requirements, key=lambda one: one.key)))
    assert parse_label_selector(str(selector)) == selector


@given(st.text(alphabet="ab =!(),<>inot-\t", max_size=20))
def test_any_text_is_a_selector_or_an_error_400(text: str) -> None:
    try:
        parse_label_selector(text).matches({"a": "b"})
        parse_field_selector(text)
    except ApiError as error:
        assert error.code == 400


@given(st.dictionaries(_word, _word, max_size=3), st.dictionaries(_word, _word, max_size=3))
def test_match_labels_mean_equality(wanted: dict[str, str], labels: dict[str, str]) -> None:
    expected = wanted.items() <= labels.items()
    assert label_selector_matches({"matchLabels": wanted}, labels) is expected
    assert parse_label_selector(format_label_selector({"matchLabels": wanted})).matches(labels) is expected


def test_an_absent_selector_selects_nothing_an_empty_one_everything() -> None:
    assert not label_selector_matches(None, {"a": "b"})
    assert label_selector_matches({}, {"a": "b"})
    expressions = [{"key": "a", "operator": "NotIn", "values": ["x"]}, {"key": "b", "operator": "Exists"}]
    assert label_selector_matches({"matchExpressions": expressions}, {"b": ""})
    assert format_label_selector({"matchExpressions": expressions}) == "a notin (x),b"


@given(st.lists(st.tuples(_word, st.text(max_size=6), st.booleans()), max_size=3))
def test_field_selectors(terms: list[tuple[str, str, bool]]) -> None:
    def escape(text: str) -> str:
        return text.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")

    text = ",".join(f"{field}{'!=' if negated else '='}{escape(value)}" for field, value, negated in terms)
    selector = parse_field_selector(text)
    assert [(one.field, one.value, one.negated) for one in selector.terms] == terms
    found = dict.fromkeys((one[0] for one in terms), "")
    assert selector.matches(lambda field: found[field]) is all((value == "") != negated for _, value, negated in terms)


@pytest.mark.parametrize("text", ["a", "a=b=c", "a=\\x", "a=\\"])
def test_invalid_field_selectors(text: str) -> None:
    with pytest.raises(ApiError):
        parse_field_selector(text)


def test_exact_field() -> None:
    assert parse_field_selector("metadata.name==x,spec.a!=y").exact("metadata.name") == "x"
    assert parse_field_selector("metadata.name!=x").exact("metadata.name") is None
