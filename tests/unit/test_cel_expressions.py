"""Expressions of CEL: values, error messages, costs and limits agree with cel-go and Kubernetes' libraries."""

from __future__ import annotations

import math
import operator
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.cluster.api.cel import celtypes as t
from hatchway.cluster.api.cel.compiler import Outcome
from hatchway.cluster.api.cel.environment import CelEnvironment
from hatchway.cluster.api.cel.expression import compile_expression
from hatchway.cluster.api.cel.library.declaring import declare
from hatchway.cluster.api.cel.syntax import ExpressionIssues
from hatchway.cluster.api.cel.values import CostExceeded, EvaluationError, show_double
from hatchway.cluster.api.registry.custom.celfunctions import kubernetes_functions

SELF: dict[str, Any] = {
    "size": 3, "ratio": 0.5, "name": "foo", "names": ["a", "b", "c"], "counts": {"k": 1}, "__namespace__": "ns",
}  # fmt: skip
FIELDS = {
    "size": t.INT, "ratio": t.DOUBLE, "name": t.STRING, "names": t.list_of(t.STRING),
    "counts": t.map_of(t.STRING, t.INT), "__namespace__": t.STRING, "missing": t.STRING,
}  # fmt: skip
ANY: dict[str, Any] = {"one": 1.0, "text": "text", "null": None, "list": [1, 2]}
ENVIRONMENT = CelEnvironment(kubernetes_functions(), {"self": t.object_type("Self"), "any": t.DYN}, {"Self": FIELDS})


def evaluate(text: str, *, limit: int = 1_000_000) -> Outcome:
    program = compile_expression(text, ENVIRONMENT).program
    return program.evaluate({"self": SELF, "any": ANY}, limit, time.thread_time() + 30)


def value_of(text: str) -> Any:
    found = evaluate(text)
    assert found.error is None, found.error
    return found.value


@pytest.mark.parametrize(
    "text",
    [
        "self.size > 2 && self.name == 'foo'",
        "1 + 2 * 3 - 4 / 2 % 3 == 5",
        "-7 / 2 == -3 && -7 % 2 == -1",
        "self.size > 2.5 && 3u > 2",
        "any.one == 1 && any.text.startsWith('te') && any.list[1] == 2",
        "any['null'] == null",
        "has(self.name) && !has(self.missing)",
        "self.?missing.orValue('z') == 'z' && self.?name.orValue('z') == 'foo'",
        "any.?none.?deeper.hasValue() == false",
        "self.namespace == 'ns'",
        "self.names.all(x, x.size() == 1) && self.names.exists(x, x == 'b')",
        "self.names.exists_one(x, x == 'b') && !self.names.exists_one(x, x != 'b')",
        "self.names.map(x, x + '!') == ['a!', 'b!', 'c!']",
        "self.names.map(x, x != 'b', x + x) == ['aa', 'cc']",
        "self.names.filter(x, x != 'b') == ['a', 'c']",
        "self.names.all(i, x, self.names[i] == x)",
        "{'a': 1}.transformMap(k, v, v + 1) == {'a': 2}",
        "['a', 'b'].transformList(i, v, i) == [0, 1]",
        "['a', 'b'].transformMapEntry(i, v, {v: i}) == {'a': 0, 'b': 1}",
        "self.counts.all(k, self.counts[k] == 1) && 'k' in self.counts && !('x' in self.counts)",
        "optional.of(1).optMap(y, y + 1).value() == 2",
        "optional.none().orValue(5) == 5 && [1][?3].orValue(7) == 7",
        "false && 1 / 0 == 1 || true",
        "1 / 0 == 1 || true",
        "type(any.one) == double && type(self.names) == list",
        "int('12') == 12 && string(1.5) == '1.5' && double('2') == 2.0 && string(true) == 'true'",
        "duration('1h') < duration('90m') && string(duration('90s')) == '90s'",
        "string(1e20) == '1e+20' && string(123456789.0) == '1.23456789e+08' && string(-1500000.0) == '-1.5e+06'",
        "string(999999.0) == '999999' && string(0.0001) == '0.0001' && string(0.00001234) == '1.234e-05'",
        "string(-0.0) == '-0' && string(5e-324) == '5e-324' && string(1e15 + 0.3) == '1.0000000000000002e+15'",
        "'%s'.format([[double('NaN'), double('-Infinity'), 1e20]]) == '[\"NaN\", \"-Inf\", 100000000000000000000.000000]'",
        "[2.0, double('NaN'), 1.0].isSorted() && [1.0, double('NaN'), 2.0].max() == 2.0",
        "timestamp('2024-02-29T01:02:03Z').getFullYear() == 2024",
        "timestamp('2024-01-01T00:00:00Z').getDayOfWeek() == 1",
        "timestamp('2024-01-01T00:00:00Z').getHours('+02:30') == 2",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
        "'hello'.substring(1, 3) == 'el' && 'a-b'.split('-') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b'",
        "'hello'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3 && 'hello'.charAt(1) == 'e'",
        "'Ab'.lowerAscii() == 'ab' && ' x '.trim() == 'x' && 'aXa'.replace('a', 'b', 1) == 'bXa'",
        "'abab'.lastIndexOf('ab') == 2 && 'abab'.lastIndexOf('ab', 1) == 0 && 'abab'.lastIndexOf('b', 9) == -1",
        "'abc'.lastIndexOf('') == 3 && 'abc'.lastIndexOf('', 1) == 1 && 'abc'.lastIndexOf('', 9) == 3",
        "''.lastIndexOf('') == 0 && ''.lastIndexOf('a') == -1 && 'ab'.lastIndexOf('abc') == -1",
        "'ab€ab€'.lastIndexOf('€') == 5 && 'ab€ab€'.lastIndexOf('€ab', 4) == 2 && 'aaa'.lastIndexOf('aa', 2) == 1",
        "'a,b,,c'.split(',') == ['a', 'b', '', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'ab'.split('', 0) == []",
        "'ā€b'.split('') == ['ā', '€', 'b'] && 'ā€b'.split('', 2) == ['ā', '€b'] && ''.split(',') == ['']",
        "'aabba'.findAll('a+') == ['aa', 'a'] && 'aabba'.findAll('a+', 1) == ['aa'] && 'aabba'.findAll('a', 0) == []",
        "'aabba'.find('b+') == 'bb' && 'a'.find('b') == ''",
        "strings.quote('a\\t\"\\\\€') == '\"a\\\\t\\\\\"\\\\\\\\€\"'",
        "quantity('1e999').asApproximateFloat() == double('Infinity')",
        "quantity('-1e999').asApproximateFloat() == double('-Infinity')",
        "quantity('1500m').asApproximateFloat() == 1.5",
        "semver('1.0.0+b') == semver('1.0.0+c') && semver('1.0.0+b') in [semver('1.0.0+c')]",
        "semver('1.0.0-a') != semver('1.0.0-b') && [semver('1.0.0+a'), semver('1.0.0')].distinct().size() == 1",
        "duration('1.5s').getMilliseconds() == 1500 && duration('-1.5s').getMilliseconds() == -1500",
        "dyn([duration('1s'), duration('2s')]).sum() == duration('3s') && dyn([]).sum() == 0",
        "type(dyn([1u]).sum()) == uint && type(dyn([1.5]).sum()) == double && type(dyn([1]).sum()) == int",
        "'%d %s %f %s'.format([1, 'abc', 1.0, duration('1m')]) == '1 abc 1.000000 60s'",
        "'%e'.format([3.14]) == '3.140000\u202f×\u202f10⁰⁰' && '%s'.format([['a', 1.5]]) == '[\"a\", 1.500000]'",
        "url('https:://kubernetes.io/').getHostname() == '' && !isSemver('', true)",
        "optional.ofNonZeroValue(duration('0s')) == optional.none()",
        "'%d of %d'.format([self.size, 5]) == '3 of 5' && '%.2f'.format([1.0]) == '1.00'",
        "'abc'.matches('^a.c$') && 'abc123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2']",
        "[3, 1, 2].max() == 3 && [3, 1, 2].min() == 1 && [1, 2].sum() == 3 && [1, 2].isSorted()",
        "['aaa', 'b', 'cc'].sortBy(x, x.size()) == ['b', 'cc', 'aaa'] && [1, 2].sortBy(x, -x)[0] == 2",
        "[2, 1].sort() == [1, 2] && [1, 1].distinct() == [1] && [[1], [2]].flatten() == [1, 2]",
        "sets.contains([1, 2], [1]) && sets.equivalent([1, 2, 1], [2, 1]) && !sets.intersects([1], [2])",
        "quantity('1Gi').isGreaterThan(quantity('1000Mi')) && quantity('2').asInteger() == 2",
        "isQuantity('10m') && !isQuantity('ten') && quantity('1k').add(1).compareTo(quantity('1001')) == 0",
        "ip('10.0.0.1').family() == 4 && isIP('::1') && !isIP('1.2.3') && ip('127.0.0.1').isLoopback()",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.0.0.0/8').prefixLength() == 8",
        "url('https://u@h:80/a?b=c').getPort() == '80' && url('https://h/p').getHostname() == 'h'",
        "isURL('https://h/') && !isURL('h') && url('/p?x=1').getQuery() == {'x': ['1']}",
        "!isURL('http://#%blah$#@') && !isURL('http://a b/') && !isURL('http://h/%zz') && !isURL('http://h:x/')",
        "isURL('/a#b') && url('/a#b').getEscapedPath() == '/a%23b' && url('http://h:/').getPort() == ''",
        "url('http://[::1]:80/').getHostname() == '::1' && url('//h/p').getHost() == '' && isURL('mailto:a@b')",
        "url('/?a=1;b&c=%zz&d=%41+b&d').getQuery() == {'d': ['A b', '']}",
        "url('/a') == url('/a') && url('/a') != url('/b') && [url('/a'), url('/a')].distinct().size() == 1",
        "semver('1.2.3').isLessThan(semver('v1.3', true)) && semver('1.0.0').major() == 1",
        "format.dns1123Label().validate('A_').hasValue() && !format.dns1123Label().validate('a').hasValue()",
        "b'ab'.size() == 2 && bytes('é').size() == 2 && 'é'.size() == 1 && r'\\n'.size() == 2 && '\\u00e9' == 'é'",
    ],
)
def test_true_expressions(text: str) -> None:
    assert value_of(text) is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("self.nope == 1", "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope == 1\n | ....^"),
        ("1 + 'a'", "<input>:1:3: found no matching overload for '_+_' applied to '(int, string)'"),
        ("self.size == 1.0", "found no matching overload for '_==_' applied to '(int, double)'"),
        ("self.name.startsWith(1)", "found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("foo.bar", "undeclared reference to 'foo' (in container '')"),
        ("self.name.nope()", "undeclared reference to 'nope' (in container '')"),
        ("self.size.x", "type 'int' does not support field selection"),
        ("[1, 'a']", "expected type 'int' but found 'string'"),
        ("self.size && true", "expected type 'bool' but found 'int'"),
        ("self.size.all(x, x)", "expression of type 'int' cannot be range of a comprehension"),
        ("self.size ==", "Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true',"),
        ("1 2", "Syntax error: extraneous input '2' expecting <EOF>"),
        ("1 #", "Syntax error: token recognition error at: '#'"),
        ("has(self)", "invalid argument to has() macro"),
        ("duration('x') == duration('1s')", "invalid duration argument"),
        ("'a'.matches('(')", "invalid matches argument"),
        ("99999999999999999999", "invalid int literal"),
        ("package", "reserved identifier: package"),
        ("(" * 300 + "1" + ")" * 300, "expression recursion limit exceeded"),
        ("1" + " + 1" * 5000, "expression recursion limit exceeded"),
        ("self" + ".name" * 5000, "expression recursion limit exceeded"),
        ("'" + "x" * 100_000 + "'", "expression code point size exceeds limit: size: 100002, limit 100000"),
    ],
)
def test_errors_of_compilation(text: str, message: str) -> None:
    with pytest.raises(ExpressionIssues) as found:
        compile_expression(text, ENVIRONMENT)
    assert message in str(found.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("self.missing == ''", "no such key: missing"),
        ("self.counts['x'] == 1", "no such key: x"),
        ("self.names[7] == ''", "index out of bounds: 7"),
        ("1 / (self.size - 3) == 0", "division by zero"),
        ("self.size + 9223372036854775807 == 0", "integer overflow"),
        ("any.text + 1 == 2", "no such overload"),
        ("any['null'].startsWith('a')", "no such overload"),
        ("-9223372036854775808 % -(self.size - 2) == 0", "integer overflow"),
        (
            "'%s'.format([b'\\xff']) == ''",
            'could not convert argument "invalid UTF-8 in bytes, cannot convert to string"',
        ),
        ("duration(any.text) == duration('1s')", "type conversion error from 'string' to 'google.protobuf.Duration'"),
        ("timestamp(any.text) == timestamp(1)", "type conversion error from 'string' to 'google.protobuf.Timestamp'"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("int(any.text) == 1", "type conversion error from 'string' to 'int'"),
        ("[any.one, any.text].map(x, x + 1.0) == []", "no such overload"),
        ("quantity(any.text) == quantity('1')", "quantities must match the regular expression"),
        ("[1].filter(x, x > 1).max() == 1", "max called on empty list"),
    ],
)
def test_errors_of_evaluation(text: str, message: str) -> None:
    assert message in str(evaluate(text).error)


@pytest.mark.parametrize(
    ("text", "cost"),
    # From apiextensions-apiserver's `pkg/apiserver/schema/cel/celcoststability_test.go`.
    [
        ("self.size == self.size", 5),
        ("type(self.size) == int", 4),
        ("double(self.size) < self.ratio", 6),
        ("double(5) < 10.0", 1),
        ("self.name.startsWith('f')", 3),
        ("!self.name.startsWith('knight')", 4),
        ("self.name.charAt(2) == 'o'", 4),
        ("self.name in ['foo', 'bar']", 2),
        ("lists.range(4) == [0, 1, 2, 3]", 16),
        # From cel-go v0.26.0.
        ("[true].exists(k, k)", 6),
        ("[1, 2].exists(k, k == 1)", 10),
        ("[1, 2].exists(k, k == 2)", 13),
        ("[1, 2].exists(k, k == 3)", 13),
        ("[1, 2].all(k, k == 2)", 8),
        ("[1, 2].all(k, k == 1)", 11),
        ("[5, 1, 2, 3].reverse() == [3, 2, 1, 5]", 16),
        ("[1, 2, 3, 4].slice(1, 3) == [2, 3]", 14),
        ("[4, 3, 2, 1].sort() == [1, 2, 3, 4]", 44),
        ("[-3, 1, -5, -2, 4].sortBy(e, -(e * e)) == [-5, 4, -3, -2, 1]", 145),
        ("[-2, 5, -2, 1, 1, 5, -2, 1].distinct() == [-2, 5, 1]", 140),
        ("[{'name': 'a'}, {'name': 'b'}, {'name': 'a'}].distinct() == [{'name': 'a'}, {'name': 'b'}]", 30),
    ],
)
def test_costs(text: str, cost: int) -> None:
    assert evaluate(text).cost == cost


@pytest.mark.parametrize(
    "text",
    [
        "lists.range(1000).all(x, lists.range(1000).all(y, lists.range(1000).all(z, z >= 0)))",
        "lists.range(100000000000).size() > 0",
        "lists.range(100000).map(x, 'x').join('y'.replace('y', 'zzzzzzzzzz')).replace('', 'x'.replace('x', 'y')) == ''"
        " || lists.range(1000000).map(x, x).size() == 1000000",
        "lists.range(3000).map(x, x).distinct().size() > 0",
    ],
)
def test_hostile_expressions_end(text: str) -> None:
    assert isinstance(evaluate(text).error, CostExceeded)


def test_nested_macros_that_use_their_operand_twice_are_compiled_once() -> None:
    text = "optional.of(1)" + "".join(f".optMap(x{at}, x{at})" for at in range(25)) + ".hasValue()"
    assert compile_expression(text, ENVIRONMENT).type == t.BOOL


# Pairs of a text and its value.
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
TREES = st.recursive(
    st.integers(-100, 100).map(lambda one: (f"({one})", one)),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
        lambda parts: (f"({parts[0][0]} {parts[1]} {parts[2][0]})", OPERATIONS[parts[1]](parts[0][1], parts[2][1]))
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_arithmetic(tree: tuple[str, int]) -> None:
    text, value = tree
    assert value_of(text) == value


@given(st.floats(allow_nan=False))
def test_the_text_of_a_double_has_its_value(value: float) -> None:
    text = show_double(value)
    assert float(text) == value
    assert ("e" in text) is (value != 0 and abs(value) != math.inf and not 1e-4 <= abs(value) < 1e6)


PIECES = st.sampled_from(
    ["self", ".", "name", "(", ")", "[", "]", "{", "}", "1", "'a'", " ", "+", "&&", "||", "?", ":", "!", "-", "in",
     ".all(x, ", "x", ",", "==", "has(", "`a`", "\\", '"', "\n", "0x", "1.5e", "é", ".?", "[?"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=20))
def test_any_text_is_compiled_or_refused_with_a_position(text: str) -> None:
    try:
        compile_expression(text, ENVIRONMENT)
    except ExpressionIssues as issues:
        assert str(issues).startswith("ERROR: <input>:")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20))
def test_escaped_strings_have_the_value_that_was_escaped(text: str) -> None:
    escaped = "".join(f"\\U{ord(one):08x}" for one in text)
    assert value_of(f"'{escaped}'") == text


def test_the_api_server_starts_without_importing_the_code_for_expressions() -> None:
    listing = "import sys, hatchway.cluster.apiserver; print(*(one for one in sys.modules if '.api.cel.' in one))"
    found = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.split() == []


@pytest.mark.parametrize(
    "text", ["dyn([[1]]).max()", "dyn([[1]]).sum()", "dyn([dyn(1), 1.5]).sum()", "dyn([dyn(1), true]).sum()"]
)
def test_the_functions_of_lists_refuse_elements_of_other_types(text: str) -> None:
    assert str(evaluate(f"{text} == 1").error) == "no such overload"


def test_an_unexpected_exception_is_an_error_of_the_expression(caplog: pytest.LogCaptureFixture) -> None:
    def fail(value: int) -> int:
        raise ZeroDivisionError(value)

    functions = {**kubernetes_functions(), "fails": [declare("fails", "fails(int) int", fail)]}
    program = compile_expression("fails(1) == 1", CelEnvironment(functions, {}, {})).program
    for _ in range(3):
        outcome = program.evaluate({}, 1000, math.inf)
        assert isinstance(outcome.error, EvaluationError)
        assert str(outcome.error) == "internal error: ZeroDivisionError"
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
