"""Mappings from YAML as dataclasses: keys and types are checked, the message names the key."""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union

from rt_segmentation.errors import RtSegmentationError

T = TypeVar("T")

SCALARS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "an integer"),
    # YAML 1.1 takes 5e-4, without a point, for a text.
    float: ((int, float), "a number, as 0.0005 or 5.0e-4"),
    str: ((str,), "a text"),
}


class SettingsError(RtSegmentationError, ValueError):
    """A key that is missing, unknown or of the wrong type; the message names it with the keys above it."""


def read_settings(kind: type[T], content: object, where: str = "") -> T:
    """Make a dataclass of a mapping; its fields' annotations say which types the values must have.

    Annotations may be bool, int, float, str, `Literal`, tuple, dict, a dataclass, and any of these or None.
    An integer is taken for a float, a list for a tuple.

    Args:
        kind: the dataclass; a `ValueError` of its `__post_init__` is passed on with the key's name.
        content: the mapping.
        where: name of the key that it stands under; '' at the top.

    Raises:
        SettingsError: see there.
    """
    if not isinstance(content, dict):
        raise SettingsError(f"'{where}' is {content!r}, it must be a mapping of keys to values")
    prefix = f"{where}." if where else ""
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    unknown = [str(key) for key in content if key not in known]
    if unknown:
        raise SettingsError(f"unknown key '{prefix}{unknown[0]}'; there are {', '.join(known)}")
    required = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in required if name not in content]
    if missing:
        raise SettingsError(f"key '{prefix}{missing[0]}' is missing; required are {', '.join(required)}")
    hints = typing.get_type_hints(kind)
    values = {key: _convert(hints[key], value, prefix + key) for key, value in content.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}" if where else str(error)) from error


def _convert(hint: Any, value: object, where: str) -> Any:
    """The value as the annotation wants it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if is_dataclass(hint):
        return read_settings(typing.cast(type, hint), value, where)
    if origin is Literal:
        if value not in arguments:
            raise SettingsError(f"'{where}' is {value!r}, it must be one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        return _convert_list(arguments, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise SettingsError(f"'{where}' is {value!r}, it must be a mapping of keys to values")
        return dict(value)
    # bool is a subclass of int, and no number here.
    wanted = {float: (int, float), int: (int,), bool: (bool,), str: (str,)}[hint]
    if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
        name = {
            float: "a number (write 0.0005 or 5.0e-4)",
            int: "an integer",
            bool: "true or false",
            str: "a text",
        }
        raise SettingsError(f"'{where}' is {value!r}, it must be {name[hint]}")
    return hint(value)


def _convert_list(items: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise SettingsError(f"'{where}' is {value!r}, it must be a list")
    if items[-1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(items) != len(value):
        raise SettingsError(f"'{where}' has {len(value)} entries, it must have {len(items)}")
    return tuple(_convert(item, v, f"{where}[{i}]") for i, (item, v) in enumerate(zip(items, value)))
