"""Text for people, logs and files, of whatever the system has for text."""

from __future__ import annotations

import unicodedata

_BREAKS = ("Cc", "Zl", "Zp")
"""Unicode's categories of control characters, and of what ends a line or a paragraph."""


def one_line(text: object) -> str:
    r"""A text whose line breaks and other control characters are written as in Python, ``\n``."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _BREAKS
        else character
        for character in str(text)
    )


def printable(text: object) -> str:
    r"""A text, or a path, with bytes that are not UTF-8 as ``\xb3``: it can be printed, logged and stored."""
    plain = str(text)
    try:
        plain.encode()
    except UnicodeEncodeError:
        pass
    else:
        return plain
    try:
        return plain.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return plain.encode("utf-8", "backslashreplace").decode()
