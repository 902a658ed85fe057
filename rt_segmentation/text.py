"""Text for people, logs and files, of whatever the system has for text."""

from __future__ import annotations

import os
import select
import sys
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


def is_name(text: str) -> bool:
    """Whether people can read and log it as a name: some text, without line breaks or control characters."""
    return bool(text.strip()) and one_line(printable(text)) == text


def counted(count: int, thing: str, things: str = "") -> str:
    """As '1 frame' or '2 frames'.

    Args:
        count: how many.
        thing: one of them.
        things: several; by default with an s.
    """
    return f"{count} {thing if count == 1 else things or f'{thing}s'}"


def nobody_reads_stdout() -> bool:
    """Whether stdout is a pipe whose reader has gone; what is left to print goes nowhere then."""
    # What could not be written may be gone, so that another flush would not fail.
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    # Python flushes once more at its end, and would complain.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return True
