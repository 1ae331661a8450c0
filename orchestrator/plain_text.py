"""Text from outside as people may read it: in a terminal, in a log, in an error.

Control characters can move the cursor or set a terminal's title. Bidirectional controls change the
order of what is read. A newline forges a line. So each of them is shown as its escape sequence.
"""

from __future__ import annotations

import re

#: User and password in a URL. The scheme is bounded, so that a long word costs linear time.
_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}:/{1,2})[^/\s@\"']*@")
#: The largest character that JSON escapes in one step.
_LAST_OF_BMP = 0xFFFF


def escaped(text: str, *, keep: str = "") -> str:
    r"""Return the text with every character that does not print as an escape, such as \x1b.

    Args:
        text: from anywhere.
        keep: characters that stay as they are, such as the newlines of our own text.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def escaped_json(document: str) -> str:
    """Return a JSON document with every character that does not print as a JSON escape.

    The value stays the same. Outside its strings, a compact document has printable characters only.
    """
    if document.isprintable():
        return document
    return "".join(c if c.isprintable() else _json_escape(c) for c in document)


def masked(text: str) -> str:
    """Return the text without the users and passwords of its URLs."""
    return _CREDENTIALS.sub(r"\1***@", text) if "@" in text else text


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _json_escape(character: str) -> str:
    number = ord(character)
    if number <= _LAST_OF_BMP:
        return f"\\u{number:04x}"
    number -= _LAST_OF_BMP + 1
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
