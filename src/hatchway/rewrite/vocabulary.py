"""Lists that the rewriters in the server and in the browser share: attributes with URLs, words of scripts.

`script.py` writes them into the browser's script, so both rewriters have the same lists. Names are in lower case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# By element: attributes with one URL, from apimachinery's `pkg/util/proxy/transport.go` (`atomsToAttrs`).
KUBERNETES_URLS: Final[Mapping[str, str]] = {
    "a": "href",
    "applet": "codebase",
    "area": "href",
    "audio": "src",
    "base": "href",
    "blockquote": "cite",
    "body": "background",
    "button": "formaction",
    "command": "icon",
    "del": "cite",
    "embed": "src",
    "form": "action",
    "frame": "longdesc src",
    "head": "profile",
    "html": "manifest",
    "iframe": "longdesc src",
    "img": "longdesc src usemap",
    "input": "src usemap formaction",
    "ins": "cite",
    "link": "href",
    "object": "classid codebase data usemap",
    "q": "cite",
    "script": "src",
    "source": "src",
    "video": "poster src",
}
_MORE_URLS: Final[Mapping[str, str]] = {
    "feimage": "href",
    "image": "href src",
    "menuitem": "icon",
    "portal": "src",
    "script": "href",  # of SVG
    "table": "background",
    "td": "background",
    "th": "background",
    "tr": "background",
    "track": "src",
    "use": "href",
}
# By element: further attributes with one URL, for applications' pages.
URLS: Final[Mapping[str, str]] = {
    element: f"{KUBERNETES_URLS.get(element, '')} {_MORE_URLS.get(element, '')}".strip()
    for element in sorted({*KUBERNETES_URLS, *_MORE_URLS})
}
# Attributes of any element. ANY_URLS have one URL. CANDIDATES have candidates of pictures (`a.png 1x, b.png 2x`).
# STYLES have style declarations, or are presentation attributes of SVG that may contain a URL.
ANY_URLS: Final = "xlink:href"
CANDIDATES: Final = "srcset imagesrcset"
STYLES: Final = "style fill stroke filter mask clip-path cursor marker-start marker-mid marker-end"
# By element: attributes with a list of URLs.
LISTS: Final[Mapping[str, str]] = {"a": "ping", "area": "ping"}

# After these words a slash begins a regular expression, and a name is a value.
OPERATORS: Final = "return typeof case in of delete void throw new instanceof do else yield await extends default"
KEYWORDS: Final = (
    f"{OPERATORS} import export from function class const let var if for while with switch try catch finally"
    " super break continue debugger"
)
# After these words a name is defined, or its value is not read.
MAKES_A_NAME: Final = "function class const let var import get set static async"
NO_VALUE_OF: Final = "new delete function class get set typeof"
# WRAPPED_MEMBERS are members of a `Location` whose value depends on the prefix. READ_MEMBERS are those among them that
# return an address.
WRAPPED_MEMBERS: Final = "href pathname assign replace toString valueOf"
READ_MEMBERS: Final = "href pathname toString valueOf"
# Windows and documents that can be navigated by an assignment to their `location`.
ASSIGNABLE: Final = "window globalThis document"
# Names of objects that may be windows or documents, in expressions with an index (`window[name]`).
INDEXED: Final = "window document self globalThis defaultView contentWindow"

# The lists for the browser's script, by the names of their variables there.
OF_THE_BROWSER: Final[Mapping[str, str | Mapping[str, str]]] = {
    "URLS": URLS,
    "ANY_URLS": ANY_URLS,
    "CANDIDATES": CANDIDATES,
    "STYLES": STYLES,
    "LISTS": LISTS,
    "OPERATORS": OPERATORS,
    "KEYWORDS": KEYWORDS,
    "MAKES_A_NAME": MAKES_A_NAME,
    "NO_VALUE_OF": NO_VALUE_OF,
    "WRAPPED_MEMBERS": WRAPPED_MEMBERS,
    "READ_MEMBERS": READ_MEMBERS,
    "ASSIGNABLE": ASSIGNABLE,
    "INDEXED": INDEXED,
}


def words(text: str) -> frozenset[bytes]:
    """Return the words of a list as a set of bytes."""
    return frozenset(text.encode().split())


def attributes(table: Mapping[str, str]) -> Mapping[bytes, frozenset[bytes]]:
    """Return a table of elements and their attributes as bytes."""
    return {element.encode(): words(names) for element, names in table.items()}
