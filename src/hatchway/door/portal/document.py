"""The HTML around the content of the portal's pages. Pure, except for reading the names of the portal's files."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from hatchway.door.assets import assets


def document(
    title: str, body: str, *, styles: Sequence[str], scripts: Sequence[str] = (), kind: str = "", refresh: int = 0
) -> str:
    """Return a whole page.

    Args:
        title: the page's title, as text.
        body: its content, as HTML.
        styles: names of further style sheets; all pages have `tokens.css`.
        scripts: names of scripts, which run when the page is complete.
        kind: the class of the body.
        refresh: seconds after which a browser requests the page again; 0 for never.
    """
    files = assets()
    loaded = "".join(f'<link rel="stylesheet" href="{files[name].path}">' for name in ("tokens.css", *styles))
    loaded += f'<script src="{files["theme.js"].path}"></script>'
    loaded += "".join(f'<script src="{files[name].path}" defer></script>' for name in scripts)
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    classes = f' class="{escape(kind)}"' if kind else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta name="robots" content="noindex">{again}<title>{escape(title)}</title>'
        f'<link rel="icon" href="{files["icon.svg"].path}" type="image/svg+xml">'
        f"{loaded}</head>\n"
        f"<body{classes}>\n{body}\n"
        '<div id="said" class="unseen" aria-live="polite"></div>\n</body>\n</html>\n'
    )
