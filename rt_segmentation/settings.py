"""Files of YAML or JSON as dataclasses: keys and types are checked, messages name the file and the key."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union

import yaml

from rt_segmentation.errors import RtSegmentationError

T = TypeVar("T")

_NAMES = {
    # YAML 1.1 takes 5e-4, without a point, for a text.
    float: "a number (write 0.0005 or 5.0e-4)",
    int: "an integer",
    bool: "true or false",
    str: "a text",
}


_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
"""YAML's types that JSON has too: a date stays the text that it is, and nothing else is made."""


# A node reads a dozen files before its first mask: libyaml takes a sixth of the time.
class _Safe(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # known when it runs
    """PyYAML's loader for strangers' files, of plain types alone."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors: ClassVar = {
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in _PLAIN
    }


# No file of this package, of ROS or of a data set comes near. PyYAML recurses once a level, in C too,
# where thousands of levels end the process.
_DEEPEST = 64
_MOST_REPEATED = 100_000
_TOO_DEEP = f"its lists and mappings stand in one another more than {_DEEPEST} deep"


class SettingsError(RtSegmentationError, ValueError):
    """A key that is missing, unknown or of the wrong type; the message names it with the keys above it."""


class _Loader(_Safe):
    """Refuses a key that stands twice, of which YAML's libraries take the last one in silence."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._checked: set[yaml.MappingNode] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Called for each mapping before its merges (``<<``) become keys, and again where it is merged."""
        if node not in self._checked:
            self._checked.add(node)
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(keys)) < len(keys):
                raise _twice(keys)
        super().flatten_mapping(node)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, if no key stands twice in it."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise _twice([key for key, _ in pairs])
    return content


def _twice(keys: list[str]) -> ValueError:
    return ValueError(f"key '{next(key for key in keys if keys.count(key) > 1)}' stands in it twice")


def load_yaml(text: str, loader: Any = _Safe) -> Any:
    """What a text of YAML says; it may come from a stranger.

    Args:
        text: the file's.
        loader: PyYAML's, that constructs only plain types.

    Raises:
        yaml.YAMLError: it is not YAML, is nested too deep or in itself, repeats too much, or a value is not
            as its tag says.
    """
    _check_size(text)
    try:
        return yaml.load(text, loader)
    except yaml.YAMLError:
        raise
    except ValueError as error:
        raise yaml.YAMLError(str(error)) from error
    # PyYAML looks into values of explicit tags, as in `!!int ""`, without a check.
    except (LookupError, AttributeError, TypeError) as error:
        raise yaml.YAMLError("a value is not of the type that its tag (!!…) says") from error


def _check_size(text: str) -> None:
    """Refuse what would recurse too deep where it is constructed, or take too long to walk through."""
    # The collections around an event: their anchors, None where there is none, and the count before them.
    around: list[tuple[str | None, int]] = []
    # Values so far, with those that aliases stand for; these alone; and how many an anchor's name stands for.
    count, repeated, counts = 0, 0, dict[str | None, int]()
    for event in _events(text):
        if isinstance(event, yaml.CollectionStartEvent):
            around.append((event.anchor, count))
            count += 1
            if len(around) > _DEEPEST:
                raise yaml.YAMLError(f"{_TOO_DEEP}, at line {_line(event)}")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = around.pop()
            if anchor is not None:
                counts[anchor] = count - before
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in around):
                raise yaml.YAMLError(f"*{event.anchor} at line {_line(event)} stands in itself")
            count += counts.get(event.anchor, 1)
            repeated += counts.get(event.anchor, 1)
            if repeated > _MOST_REPEATED:
                raise yaml.YAMLError(
                    f"its aliases (*name) stand for more than {_MOST_REPEATED} values, at line {_line(event)}"
                )
        elif isinstance(event, yaml.ScalarEvent):
            count += 1


def _events(text: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, _Safe)
    except yaml.MarkedYAMLError as error:
        # Newer ones of libyaml's have a limit of their own.
        if "nesting depth" in (error.problem or "") and error.problem_mark is not None:
            raise yaml.YAMLError(f"{_TOO_DEEP}, at line {error.problem_mark.line + 1}") from error
        raise


def _line(event: Any) -> int:
    number: int = event.start_mark.line + 1
    return number


def read_mapping(path: Path, what: str, error: type[RtSegmentationError]) -> dict[str, Any]:
    """The keys and values of a file: JSON where its suffix says so, otherwise YAML.

    Args:
        path: of the file.
        what: it is, for messages.
        error: is raised where it cannot be read, or is no mapping; the message names it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        is_json = path.suffix == ".json"
        content = json.loads(text, object_pairs_hook=_once) if is_json else load_yaml(text, _Loader)
    except FileNotFoundError:
        raise error(f"{what} {path} does not exist") from None
    except RecursionError as problem:
        # Python's JSON; its own limit is far above this one.
        raise error(f"{what} {path} cannot be read: {_TOO_DEEP}") from problem
    except (OSError, ValueError, yaml.YAMLError) as problem:
        # YAML's are of several lines.
        why = " ".join(str(problem).split())
        raise error(f"{what} {path} cannot be read: {why}") from problem
    if not isinstance(content, dict):
        raise error(f"{what} {path} is not a mapping of keys to values")
    return content


def read_file(
    kind: type[T],
    path: Path,
    what: str,
    error: type[RtSegmentationError],
    given: Mapping[str, object] = types.MappingProxyType({}),
) -> T:
    """Make a dataclass of a file.

    Args:
        kind: the dataclass, as for `read_settings`.
        path: of the file.
        what: it is, for messages.
        error: is raised where the file is not as it should be; the message names it and the key.
        given: values of fields that no file has.
    """
    content = read_mapping(path, what, error)
    try:
        return read_settings(kind, content, given=given)
    except SettingsError as problem:
        raise error(f"{what} {path}: {problem}") from problem


def read_settings(
    kind: type[T], content: object, where: str = "", given: Mapping[str, object] = types.MappingProxyType({})
) -> T:
    """Make a dataclass of a mapping; its fields' annotations say which types the values must have.

    Annotations may be bool, int, float, str, `Literal`, tuple, dict, a dataclass, and any of these or None.
    An integer is taken for a float, a list for a tuple; `Any` takes every value as it is.

    Args:
        kind: the dataclass; a `ValueError` of its `__post_init__` is passed on with the key's name.
        content: the mapping.
        where: name of the key that it stands under; '' at the top.
        given: values of fields that the mapping must not have.

    Raises:
        SettingsError: see there.
    """
    if not isinstance(content, dict):
        raise SettingsError(f"'{where}' is {content!r}, it must be a mapping of keys to values")
    prefix = f"{where}." if where else ""
    known = {f.name: f for f in fields(kind) if f.name not in given}  # type: ignore[arg-type]
    unknown = [str(key) for key in content if key not in known]
    if unknown:
        raise SettingsError(f"unknown key {prefix + unknown[0]!r}; there are {', '.join(known)}")
    required = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in required if name not in content]
    if missing:
        raise SettingsError(f"key '{prefix}{missing[0]}' is missing; required are {', '.join(required)}")
    hints = typing.get_type_hints(kind)
    values = {key: _convert(hints[key], value, prefix + key) for key, value in content.items()}
    try:
        return kind(**values, **given)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}" if where else str(error)) from error


def to_plain(value: Any) -> Any:
    """The inverse of `read_settings`: dataclasses, tuples and dicts as JSON's types."""
    if is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {key: to_plain(inner) for key, inner in value.items()}
    return value


def _convert(hint: Any, value: object, where: str) -> Any:
    """The value as the annotation wants it."""
    if hint is Any:
        return value
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
        inner = arguments[1]
        return {key: v if inner is Any else _convert(inner, v, f"{where}.{key}") for key, v in value.items()}
    # bool is a subclass of int, and no number here.
    wanted = {float: (int, float), int: (int,), bool: (bool,), str: (str,)}[hint]
    if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
        raise SettingsError(f"'{where}' is {value!r}, it must be {_NAMES[hint]}")
    try:
        return hint(value)
    except OverflowError:
        raise SettingsError(f"'{where}' is an integer of too many digits for a number") from None


def _convert_list(items: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise SettingsError(f"'{where}' is {value!r}, it must be a list")
    if items[-1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(items) != len(value):
        raise SettingsError(f"'{where}' has {len(value)} entries, it must have {len(items)}")
    return tuple(_convert(item, v, f"{where}[{i}]") for i, (item, v) in enumerate(zip(items, value)))
