"""Functions of strings: cel-go's `ext/strings.go` (version 2), and apiserver's `pkg/cel/library/regex.go`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hatchway.cluster.api.cel.celtypes import Overload
from hatchway.cluster.api.cel.library.declaring import declare, limit_made, regex_cost, traversal, twice_traversal
from hatchway.cluster.api.cel.library.formatting import format_text
from hatchway.cluster.api.cel.library.regexes import expression_for
from hatchway.cluster.api.cel.state import Evaluation
from hatchway.cluster.api.cel.values import EvaluationError, Value, size_of

if TYPE_CHECKING:
    from hatchway.goregexp import Expression

__all__ = ["text_library"]

_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
# The white space of Unicode, which `trim` removes.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_QUOTED = str.maketrans({
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\",
    '"': '\\"',
})  # fmt: skip
_LATIN_1 = re.compile("[\x00-\xff]*")
# The memory of a short text, as a multiple of the memory of its place in a list.
_PART = 8


def _out_of_range(index: int) -> EvaluationError:
    return EvaluationError(f"index out of range: {index}")


def _char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise _out_of_range(index)
    return text[index : index + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if start < 0:
        raise _out_of_range(start)
    if not part:
        return min(start, len(text))
    return text.find(part, start) if start < len(text) else -1


def _last_index_of(text: str, part: str) -> int:
    return _last_index_before(text, part, len(text) - 1) if text and part else len(text) if not part else -1


def _last_index_before(text: str, part: str, last: int) -> int:
    if last < 0:
        raise _out_of_range(last)
    if not part:
        return min(last, len(text))
    if last >= len(text) or len(part) > len(text):
        return -1
    # `str.rfind` takes as many steps as the product of both lengths, and no other thread runs meanwhile. The number of
    # steps of `str.find` is proportional to the length of the text.
    at = text[: last + len(part)][::-1].find(part[::-1])
    return min(last + len(part), len(text)) - at - len(part) if at >= 0 else -1


def _replaced(text: str, old: str, new: str, count: int = -1) -> str:
    most = text.count(old) if old else len(text) + 1
    most = most if count < 0 else min(most, count)
    limit_made(len(text) + most * max(len(new) - len(old), 0))
    return text.replace(old, new, count if count >= 0 else -1)


def _split(state: Evaluation, text: str, separator: str, count: int = -1) -> list[str]:
    if count == 0:
        return []
    parts = text.count(separator) + 1 if separator else len(text)
    parts = parts if count < 0 else min(parts, count)
    # Each character below 256 exists only once in the interpreter, so its list needs no more than the list's places.
    is_small = not separator and _LATIN_1.fullmatch(text) is not None
    state.reserve(parts if is_small else parts * _PART)
    state.walk(parts)
    if separator:
        return text.split(separator, count - 1 if count > 0 else -1)
    if count < 0 or count >= len(text):
        return list(text)
    return [*text[: count - 1], text[count - 1 :]]


def _substring(text: str, start: int, end: int | None = None) -> str:
    if not 0 <= start <= len(text):
        raise _out_of_range(start)
    if end is None:
        return text[start:]
    if not 0 <= end <= len(text):
        raise _out_of_range(end)
    if start > end:
        raise EvaluationError(f"invalid substring range. start: {start}, end: {end}")
    return text[start:end]


def _joined(state: Evaluation, parts: list[str], separator: str = "") -> str:
    size = len(separator) * len(parts)
    for one in parts:
        state.walk(1)
        size += len(one)
    limit_made(size)
    return separator.join(parts)


def _quote(state: Evaluation, text: str) -> str:
    # No character becomes longer than two characters.
    state.reserve(2 * len(text) + 2)
    state.walk(1 + len(text) // 64)
    return f'"{text.translate(_QUOTED)}"'


def _compiled(state: Evaluation, text: str, pattern: str) -> Expression:
    try:
        return expression_for(state, text, pattern)
    except ValueError as error:
        raise EvaluationError(f"Illegal regex: error parsing regexp: {error}") from None


def _find(state: Evaluation, text: str, pattern: str) -> str:
    return next(_compiled(state, text, pattern).each(text), "")


def _find_all(state: Evaluation, text: str, pattern: str, limit: int = -1) -> list[str]:
    found: list[str] = []
    if limit == 0:
        return found
    for one in _compiled(state, text, pattern).each(text):
        found.append(one)
        if len(found) == limit:
            break
        # A match may read the text to its end, so the number of matches does not limit the work.
        state.walk(1 + len(text) // 256)
        state.reserve(len(found) * _PART)
    return found


def _result_cost(args: tuple[Value, ...], result: Value) -> int:
    return -(-size_of(result) // 5)


def _format_cost(args: tuple[Value, ...], result: Value) -> int:
    return traversal(args[1:], result)


def _split_cost(args: tuple[Value, ...], result: Value) -> int:
    return twice_traversal(args[1:], result)


def _find_cost(args: tuple[Value, ...], result: Value) -> int:
    return regex_cost(args[1:], result)


def _includes_cost(args: tuple[Value, ...], result: Value) -> int:
    return size_of(args[0]) // 10


def text_library() -> Iterator[Overload]:
    """Yield the functions of strings that are not in CEL's standard library."""
    yield declare("string_char_at_int", "string.charAt(int) string", _char_at)
    yield declare("string_index_of_string", "string.indexOf(string) int", _index_of, _includes_cost)
    yield declare("string_index_of_string_int", "string.indexOf(string, int) int", _index_of, _includes_cost)
    yield declare("string_last_index_of_string", "string.lastIndexOf(string) int", _last_index_of, _includes_cost)
    yield declare("string_last_index_of_string_int", "string.lastIndexOf(string, int) int", _last_index_before,
                  _includes_cost)  # fmt: skip
    yield declare("string_lower_ascii", "string.lowerAscii() string", lambda text: text.translate(_LOWER), traversal)
    yield declare("string_upper_ascii", "string.upperAscii() string", lambda text: text.translate(_UPPER), traversal)
    yield declare("string_replace_string_string", "string.replace(string, string) string", _replaced, twice_traversal)
    yield declare("string_replace_string_string_int", "string.replace(string, string, int) string", _replaced,
                  twice_traversal)  # fmt: skip
    yield declare("string_split_string", "string.split(string) list(string)", _split, _split_cost, counts_steps=True)
    yield declare("string_split_string_int", "string.split(string, int) list(string)", _split, _split_cost,
                  counts_steps=True)  # fmt: skip
    yield declare("string_substring_int", "string.substring(int) string", _substring, traversal)
    yield declare("string_substring_int_int", "string.substring(int, int) string", _substring, traversal)
    yield declare("string_trim", "string.trim() string", lambda text: text.strip(_SPACE), traversal)
    yield declare("list_join", "list(string).join() string", _joined, _result_cost, counts_steps=True)
    yield declare("list_join_string", "list(string).join(string) string", _joined, _result_cost, counts_steps=True)
    yield declare("strings_quote", ".strings.quote(string) string", _quote,
                  lambda args, result: traversal(args[1:], result), counts_steps=True)  # fmt: skip
    yield declare("string_format", "string.format(list(dyn)) string", format_text, _format_cost, counts_steps=True)
    yield declare("string_find_string", "string.find(string) string", _find, _find_cost, counts_steps=True)
    yield declare("string_find_all_string", "string.findAll(string) list(string)", _find_all, _find_cost,
                  counts_steps=True)  # fmt: skip
    yield declare("string_find_all_string_int", "string.findAll(string, int) list(string)", _find_all, _find_cost,
                  counts_steps=True)  # fmt: skip
