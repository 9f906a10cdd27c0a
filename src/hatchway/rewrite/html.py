"""Rewrites URL attributes in HTML under a path prefix, streaming.

It changes the attributes in apimachinery's list (`pkg/util/proxy/transport.go`, `atomsToAttrs`) by a rule of
`urlrules.py`. All other bytes pass unchanged: nothing is parsed into a tree and written again. The rewriter works on
bytes, so the page may have any charset that contains ASCII. `page.py` extends it.

The tokenizer is the part of https://html.spec.whatwg.org/multipage/parsing.html#tokenization that is needed to find
attributes: text, tags, comments, and elements whose content is not markup. Between two pieces of input it keeps at most
a few bytes, or one attribute's value of up to `VALUE_LIMIT` bytes; longer values pass unchanged. The output does not
depend on how the input is cut into pieces.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from hatchway.rewrite.urlrules import UrlRule
from hatchway.rewrite.vocabulary import KUBERNETES_URLS, attributes

# The maximum number of bytes of a value that is rewritten. Longer values are `data:` URLs or hostile.
VALUE_LIMIT = 64 * 1024
# No element or attribute in the table has a longer name.
_NAME_LIMIT = 16

URL_ATTRIBUTES = attributes(KUBERNETES_URLS)
_NO_ATTRIBUTES: frozenset[bytes] = frozenset()
# Elements whose content is text for a browser, up to their own end tag. `noscript` is not among them: for browsers
# without scripts it contains markup.
_RAW_ELEMENTS = frozenset(b"script style textarea title xmp iframe noembed noframes plaintext".split())

_SPACE = b"\t\n\f\r "
_TAG_NAME_END = re.compile(rb"[\t\n\f\r />]")
_BEFORE_NAME = re.compile(rb"[\t\n\f\r /]*")
_ATTRIBUTE_NAME_END = re.compile(rb"[\t\n\f\r />=]")
_SPACES = re.compile(rb"[\t\n\f\r ]*")
_UNQUOTED_END = re.compile(rb"[\t\n\f\r >]")
_QUOTED_END = {b'"': re.compile(b'"'), b"'": re.compile(b"'")}
_COMMENT_END = re.compile(rb"--!?>")
_CDATA_END = re.compile(rb"]]>")
_BOGUS_END = re.compile(rb">")
_LETTER = re.compile(rb"[A-Za-z]")
# A whole start or end tag. No part of the pattern can match in two ways (lookaheads show where each part ends), so that
# hostile input takes linear time.
WHOLE_TAG = re.compile(
    rb"<(/?)([A-Za-z][^\t\n\f\r />]*)(?=[\t\n\f\r />])"
    rb"(?:[\t\n\f\r /]+(?![\t\n\f\r /])|=?[^\t\n\f\r />=]+(?=[\t\n\f\r />=])"
    rb"(?:[\t\n\f\r ]*=[\t\n\f\r ]*(?:\"[^\"]*\"|'[^']*'|(?=>)|[^\t\n\f\r >\"'][^\t\n\f\r >]*(?=[\t\n\f\r >]))"
    rb"|(?![\t\n\f\r ]*=)))*>"
)
# One attribute of such a tag: its name, and its value in double quotes, in single quotes, or without quotes.
ATTRIBUTE = re.compile(
    rb"(=?[^\t\n\f\r />=]+)(?:[\t\n\f\r ]*=[\t\n\f\r ]*"
    rb"(?:\"([^\"]*)\"|'([^']*)'|(?=>)|([^\t\n\f\r >\"'][^\t\n\f\r >]*)))?"
)
# A "<" that may begin markup. The next character decides, so a "<" at the end of the input counts, too.
_MARKUP = re.compile(rb"<(?=[A-Za-z/!?]|\Z)")
_REFERENCE = re.compile(rb"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?")
_LONG_NUMBER = re.compile(r"&#(?=0*[1-9][0-9]{7}|[0-9]{1000})")
# Where a script may end or nest: the specification's "script data (double) escaped" states.
_SCRIPT_MARK = re.compile(rb"<!--|-->|<(/?)script(?=[\t\n\f\r />])", re.IGNORECASE)
_RAW_END = {
    name: re.compile(rb"</" + name + rb"(?=[\t\n\f\r />])", re.IGNORECASE) for name in _RAW_ELEMENTS - {b"plaintext"}
}
# At most this many bytes at the end of the input may be the beginning of one of the marks above.
_MARK_TAIL = 12
_MARK_BEGINS = re.compile(rb"(?:<[!/A-Za-z-]*|--?)\Z")
_URL_SYNTAX = frozenset("/:.?#")

_State = Callable[[bytes, int, list[bytes]], int]


class HtmlRewriter:
    """A body transform that rewrites URL attributes.

    rule: rewrites one URL. It must add only characters that need no escape in an attribute without quotes.
    xml: True for XHTML, where `<script/>` has no content.
    """

    def __init__(self, rule: UrlRule, *, xml: bool = False) -> None:
        self._rule = rule
        self._xml = xml
        self._state: _State = self._text
        self._rest = b""
        self._name = b""
        self._end_tag = False
        self._attributes = _NO_ATTRIBUTES
        self._element = b""
        self._wanted = False
        self._value_end = _UNQUOTED_END
        self._script_depth = 0

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return the output that no longer depends on later bytes."""
        buffer = self._rest + data if self._rest else data
        out: list[bytes] = []
        position = 0
        end = len(buffer)
        while position < end:
            state = self._state
            before = position
            position = state(buffer, position, out)
            if position == before and self._state == state:
                break
        self._rest = buffer[position:]
        return b"".join(out)

    def finish(self) -> bytes:
        """End the input; return the bytes that were held back, which began a construct that did not end."""
        rest, self._rest = self._rest, b""
        return rest

    # The method of each state takes (buffer, position, out), appends finished output and returns the new position. When
    # it changes neither the position nor the state, it waits for more input.

    def _text(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        """Copy text and rewrite complete tags; leave everything else to other states. Return the new position."""
        start = position
        while True:
            found = _MARKUP.search(buffer, position)
            if found is None:
                out.append(buffer[start:])
                return len(buffer)
            begin = found.start()
            tag = WHOLE_TAG.match(buffer, begin)
            if tag is None:
                out.append(buffer[start:begin])
                return self._markup(buffer, begin, out)
            position = tag.end()
            if tag[1]:
                continue
            name = tag[2].lower()
            start = self._start_tag(buffer, start, tag, name, out)
            if name in _RAW_ELEMENTS and not (self._xml and buffer[position - 2] == 0x2F):
                out.append(buffer[start:position])
                self._element = name
                self._script_depth = 0
                self._state = self._raw
                return position

    def _start_tag(self, buffer: bytes, start: int, tag: re.Match[bytes], name: bytes, out: list[bytes]) -> int:
        """Rewrite a complete start tag.

        start: `buffer` is copied to `out` up to this index. Returns the new value of this index.
        """
        attributes = URL_ATTRIBUTES.get(name)
        if attributes is None:
            return start
        return self._whole_tag(buffer, start, tag.end(2), tag.end(), attributes, out)

    def _whole_tag(
        self, buffer: bytes, start: int, position: int, end: int, attributes: frozenset[bytes], out: list[bytes]
    ) -> int:
        """Rewrite the attributes between `position` and `end`. `start` and the result are as in `_start_tag`."""
        for match in ATTRIBUTE.finditer(buffer, position, end):
            if match[1].lower() not in attributes:
                continue
            group = match.lastindex
            if group is None or group == 1 or match.end(group) - match.start(group) > VALUE_LIMIT:
                continue
            value = match[group]
            rewritten = self._rewrite(value)
            if rewritten is not value:
                out.append(buffer[start : match.start(group)])
                out.append(rewritten)
                start = match.end(group)
        return start

    def _markup(self, buffer: bytes, found: int, out: list[bytes]) -> int:
        """Choose the state after a "<" at `found`, by the characters that follow."""
        head = buffer[found : found + 9]
        if head in (b"<", b"</", b"<!") or (head != b"<!--" and b"<!--".startswith(head)):
            return found
        if _LETTER.match(head, 1) or (head[1:2] == b"/" and _LETTER.match(head, 2)):
            if self._waits(buffer, found):
                return found
            self._end_tag = head[1:2] == b"/"
            self._name = b""
            self._state = self._tag_name
            begun = found + 1 + self._end_tag
        elif head.startswith(b"<!--"):
            self._state = self._comment
            begun = found + 2  # In <!--> the same two dashes begin and end the comment.
        elif head == b"<![CDATA[":
            self._state = self._cdata
            begun = found + 9
        elif b"<![CDATA[".startswith(head):
            return found
        else:
            # "<" before "!", "?" or "/" begins a bogus comment; before any other character it is text.
            self._state = self._bogus_comment if head[1:2] in (b"!", b"?", b"/") else self._text
            begun = found + 1
        out.append(buffer[found:begun])
        return begun

    def _waits(self, buffer: bytes, found: int) -> bool:
        """Return True to keep the tag at `found` until all of it has arrived."""
        return False

    def _content(self, piece: bytes, out: list[bytes]) -> None:
        """Copy some content of an element whose content is not markup."""
        out.append(piece)

    def _content_end(self, out: list[bytes]) -> None:
        """End an element whose content is not markup."""

    def _comment(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        return self._until(_COMMENT_END, 3, buffer, position, out)

    def _cdata(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        return self._until(_CDATA_END, 2, buffer, position, out)

    def _bogus_comment(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        return self._until(_BOGUS_END, 0, buffer, position, out)

    def _until(self, mark: re.Pattern[bytes], tail: int, buffer: bytes, position: int, out: list[bytes]) -> int:
        """Copy up to the end of `mark`, and go back to text.

        tail: this many bytes at the end of the input may be the beginning of the mark, so they are not copied yet.
        """
        found = mark.search(buffer, position)
        if found is not None:
            self._state = self._text
            done = found.end()
        else:
            done = max(position, len(buffer) - tail)
        out.append(buffer[position:done])
        return done

    def _tag_name(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        found = _TAG_NAME_END.search(buffer, position)
        done = found.start() if found else len(buffer)
        piece = buffer[position:done]
        out.append(piece)
        self._name += piece[: _NAME_LIMIT - len(self._name)]
        if found:
            self._element = b"" if self._end_tag else self._name.lower()
            self._attributes = URL_ATTRIBUTES.get(self._element, _NO_ATTRIBUTES)
            self._state = self._before_attribute
        return done

    def _before_attribute(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        done = _skip(_BEFORE_NAME, buffer, position)
        out.append(buffer[position:done])
        if done == len(buffer):
            return done
        if buffer[done : done + 1] == b">":
            return self._end_of_tag(buffer, done, out)
        self._name = b""
        self._state = self._attribute_name
        if buffer[done : done + 1] == b"=":  # here "=" is the first character of a name
            self._name = b"="
            out.append(b"=")
            done += 1
        return done

    def _attribute_name(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        found = _ATTRIBUTE_NAME_END.search(buffer, position)
        done = found.start() if found else len(buffer)
        piece = buffer[position:done]
        out.append(piece)
        self._name += piece[: _NAME_LIMIT - len(self._name)]
        if found:
            self._wanted = self._name.lower() in self._attributes
            self._state = self._after_name
        return done

    def _after_name(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        done = _skip(_SPACES, buffer, position)
        if done < len(buffer):
            self._state = self._before_attribute
            if buffer[done : done + 1] == b"=":
                self._state = self._before_value
                done += 1
        out.append(buffer[position:done])
        return done

    def _before_value(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        done = _skip(_SPACES, buffer, position)
        if done < len(buffer):
            first = buffer[done : done + 1]
            self._value_end = _QUOTED_END.get(first, _UNQUOTED_END)
            self._state = self._before_attribute if first == b">" else self._value if self._wanted else self._skip_value
            if first in _QUOTED_END:
                done += 1
        out.append(buffer[position:done])
        return done

    def _value(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        found = self._value_end.search(buffer, position, position + VALUE_LIMIT + 1)
        if found is None:
            if len(buffer) - position > VALUE_LIMIT:
                self._state = self._skip_value
            return position
        out.append(self._rewrite(buffer[position : found.start()]))
        self._state = self._skip_value
        return found.start()

    def _skip_value(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        found = self._value_end.search(buffer, position)
        done = len(buffer)
        if found is not None:
            self._state = self._before_attribute
            done = found.start() if self._value_end is _UNQUOTED_END else found.end()
        out.append(buffer[position:done])
        return done

    def _end_of_tag(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        out.append(b">")
        self._state = self._raw if self._element in _RAW_ELEMENTS else self._text
        self._script_depth = 0
        return position + 1

    def _raw(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        """Copy an element's content that is not markup, up to its end tag."""
        if self._element == b"plaintext":
            self._content(buffer[position:], out)
            return len(buffer)
        start = position
        marks = _SCRIPT_MARK if self._element == b"script" else _RAW_END[self._element]
        while (found := marks.search(buffer, position)) is not None:
            mark = found[0].lower()
            position = found.end()
            if mark == b"<!--":
                self._script_depth = max(self._script_depth, 1)
                position -= 2  # its dashes may belong to "-->"
            elif mark == b"-->":
                self._script_depth = 0
            elif mark == b"<script":
                self._script_depth = 2 if self._script_depth else 0
            elif self._script_depth == 2:
                self._script_depth = 1
            else:
                self._state = self._text
                self._content(buffer[start : found.start()], out)
                self._content_end(out)
                return found.start()
        done = max(position, len(buffer) - _MARK_TAIL)
        kept = _MARK_BEGINS.search(buffer, done)
        done = kept.start() if kept else len(buffer)
        self._content(buffer[start:done], out)
        return done

    def _rewrite(self, value: bytes) -> bytes:
        url = value.lstrip(_SPACE)  # browsers strip white space around a URL
        blank = value[: len(value) - len(url)]
        plain = _unescape_beginning(url)
        rewritten = self._rule(plain)
        return value if rewritten == plain else blank + rewritten


def unescape(text: str) -> str:
    """Resolve character references, except numbers with more digits than a character can have."""
    return html.unescape(_LONG_NUMBER.sub("&amp;#", text))


def _skip(pattern: re.Pattern[bytes], buffer: bytes, position: int) -> int:
    found = pattern.match(buffer, position)
    return found.end() if found else position


def _unescape_beginning(url: bytes) -> bytes:
    """Replace the character references in a URL that could hide whether the URL is absolute or relative.

    These are references before "?" to characters of a URL's syntax, such as `&#47;` for "/". Other references stay, so
    the value does not need to be escaped again.
    """
    if b"&" not in url:
        return url
    beginning, question, rest = url.partition(b"?")

    def plain(match: re.Match[bytes]) -> bytes:
        character = html.unescape(match[0].decode("ascii"))
        return character.encode() if character in _URL_SYNTAX else match[0]

    return _REFERENCE.sub(plain, beginning) + question + rest
