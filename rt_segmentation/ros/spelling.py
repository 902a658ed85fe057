"""Names and values from outside as they stand in a sentence: misspelt, very long, or many."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

_CHARACTERS, _NAMES = 100, 8
_UNITS = ("deg", "hz", "m", "ms", "s")


def is_slip(name: str, known: Iterable[str]) -> bool:
    """Whether a parameter's name is so near a known one that it must be that one, misspelt.

    'overlay_opacty' is nearly 'overlay_opacity', 'max_rate' is 'max_rate_hz' without its unit;
    'base_frame_id' is not 'frame_id'.
    """
    for other in known:
        if name in (other.removesuffix(f"_{unit}") for unit in _UNITS) and name != other:
            return True
        ratio = difflib.SequenceMatcher(None, name, other).ratio()
        if ratio >= 0.9 or (ratio >= 0.75 and abs(len(name) - len(other)) <= 2):
            return True
        if "_" in name and _lacks_its_group(name, other):
            return True
    return False


def is_name_slip(name: str, other: str) -> bool:
    """Whether a name that somebody chose is another one, misspelt.

    'frnt' is 'front'; 'front_right' is not 'front_left', nor 'camera_2' 'camera_1'.
    """
    digits = str.maketrans("", "", "0123456789")
    if name.translate(digits) == other.translate(digits):
        return False
    return difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio() >= 0.85


def topic_problem(name: str) -> str:
    """Say why no topic has this name, as rcl does in words of its own; empty if one may."""
    if re.fullmatch(r"(?:~?/)?[A-Za-z_]\w*(?:/[A-Za-z_]\w*)*", name, re.ASCII):
        return ""
    return (
        "which is no topic's name: between single slashes it must have letters, digits and _ alone, and no"
        " digit first"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question with the nearest known name, with what goes before it; empty where none is near."""
    names = sorted(known)
    nearest = [other for other in names if _lacks_its_group(name, other)]
    nearest = nearest or difflib.get_close_matches(name[:_CHARACTERS], names, 1)
    return f"; did you mean '{nearest[0]}'?" if nearest else ""


def shortened(text: str) -> str:
    """On one line, without a terminal's codes, and not for ever."""
    shown = "".join(character if character.isprintable() else " " for character in text[:_CHARACTERS])
    return shown if len(text) <= _CHARACTERS else f"{shown}... ({len(text)} characters)"


def listed(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    more = len(names) - _NAMES
    return ", ".join(shortened(name) for name in names[:_NAMES]) + (f" and {more} more" if more > 0 else "")


def _lacks_its_group(name: str, other: str) -> bool:
    return other.endswith(f".{name}")
