"""Makes text from pods, API servers and archives safe to print in Hatchway's own messages.

A terminal executes control characters, and a line break in a name or in a server's message would begin a line that
looks as if Hatchway had written it. This file imports nothing, because the plain `hatchway exec` uses it, too.
"""

from __future__ import annotations

# The longest message that is printed (characters); servers may send longer ones.
LONGEST = 4096


def printable(text: str, longest: int = LONGEST) -> str:
    """Return `text` as one line without anything that a terminal would execute.

    Control characters, line breaks, and invisible characters (direction marks) become "?"; letters and symbols of every
    language stay. longest: the maximum number of characters that are returned. The middle of a longer text is replaced
    by "...", because the reason is often at the end.
    """
    shown = text
    if len(text) > longest:
        last = longest // 4
        shown = text[: longest - last] + "..." + text[len(text) - last :]
    if shown.isprintable():
        return shown
    return "".join([character if character.isprintable() else "?" for character in shown])


def printable_lines(text: str) -> str:
    """Return a text of several lines, each made safe as by `printable`, but of any length.

    Use it only for texts whose line breaks Hatchway has written itself. Insert other text only after a call of
    `printable`.
    """
    return "\n".join([printable(line, len(line)) for line in text.split("\n")])
