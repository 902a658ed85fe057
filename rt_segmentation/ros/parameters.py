"""Node parameters as data: a table of them, the checks of a value, and the params file and docs made from it.

Needs no ROS; `declaring` puts a table on a node.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.ros.spelling import did_you_mean, shortened
from rt_segmentation.text import one_line

Value: TypeAlias = "bool | int | float | str | list[bool] | list[int] | list[float] | list[str]"

_TYPE_NAMES: dict[type, str] = {bool: "boolean", int: "integer", float: "float", str: "string"}
_EXAMPLES: dict[type, str] = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
# No path is longer.
MAX_CHARACTERS = 4096


class ParameterError(RtSegmentationError, ValueError):
    """A parameter that cannot be used; the message is one sentence that names it and says what is right.

    It is on one line, whatever values and files it quotes: a service's answer and a log have it as it is.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


@dataclass(frozen=True)
class Parameter:
    """One parameter; its type is that of its default.

    Attributes:
        name: The ROS name, dots allowed.
        default: The value without an override. A list needs an element, as ROS cannot tell the type of an
            empty one: ``[""]`` is the list of no strings.
        text: One sentence that says what it does.
        unit: For example ``ms``, ``px`` or ``Hz``.
        minimum: Smallest number allowed, of a list's elements too.
        maximum: Largest number allowed, of a list's elements too.
        choices: The only strings allowed, of a list's elements too.
        read_only: Read at the start only; later changes are refused.
        check: Gets a value of the right type, range and choice; returns one sentence when it is bad.
        empty: What the empty list stands for, of numbers, which ROS cannot store; without it one is refused.
        numbers: Whether whole numbers are taken for the texts that they are written as: ids beside names.

    Raises:
        ValueError: the declaration contradicts itself.
    """

    name: str
    default: Value
    text: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False
    check: Callable[[Any], str | None] | None = None
    empty: list[int] | list[float] | None = None
    numbers: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.default, list) and not self.default:
            raise ValueError(f"parameter '{self.name}' has an empty list as default, which has no type")
        if self.element_type not in _TYPE_NAMES:
            raise ValueError(f"parameter '{self.name}' has a default of no ROS type: {self.default!r}")
        if self.has_range and self.element_type not in (int, float):
            raise ValueError(f"parameter '{self.name}' has a range but is no number")
        if self.choices and self.element_type is not str:
            raise ValueError(f"parameter '{self.name}' has choices but is no string")
        if self.numbers and self.element_type is not str:
            raise ValueError(f"parameter '{self.name}' takes numbers for texts but is no string")
        accept(self, self.default)

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return isinstance(self.default, list)

    @property
    def element_type(self) -> type:
        """bool, int, float or str: the value's type, or that of a list's elements."""
        return type(self.default[0]) if isinstance(self.default, list) else type(self.default)

    @property
    def type_name(self) -> str:
        """The type in words, such as ``float`` or ``list of strings``."""
        name = _TYPE_NAMES[self.element_type]
        return f"list of {name}s" if self.is_list else name

    @property
    def has_range(self) -> bool:
        """Whether numbers are bounded."""
        return self.minimum is not None or self.maximum is not None

    @property
    def allowed(self) -> str:
        """The range or the choices in words, empty where everything goes."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        unit = f" {self.unit}" if self.unit else ""
        if self.minimum is not None and self.maximum is not None:
            return f"from {self._number(self.minimum)} to {self._number(self.maximum)}{unit}"
        if self.minimum is not None:
            return f"{self._number(self.minimum)}{unit} or more"
        return "" if self.maximum is None else f"{self._number(self.maximum)}{unit} or less"

    def _number(self, value: float) -> str:
        return _yaml_scalar(self.element_type(value))


def accept(parameter: Parameter, value: Any) -> Any:
    """Check a value given for a parameter and return it in the parameter's type.

    Whole numbers pass for floats, and for texts that may be written so, since YAML and the command line read
    `1` as an integer.

    Raises:
        ParameterError: wrong type, out of range, no choice, or refused by the parameter's own check.
    """
    name = f"parameter '{parameter.name}'"
    if parameter.is_list:
        # An empty list in YAML arrives without a type, and so without a value.
        elements = [] if value is None else value
        if isinstance(elements, (str, bytes)) or not hasattr(elements, "__iter__"):
            raise ParameterError(f"{name} is {_shown(value)}, it must be a {parameter.type_name}")
        accepted: Any = [_accept_element(parameter, element, f"{name} holds") for element in filled(elements)]
        if not accepted and parameter.empty is not None:
            accepted = list(parameter.empty)
        if not accepted and parameter.element_type is not str:
            raise ParameterError(f"{name} is an empty list, it must have at least one element")
    elif value is None:
        raise ParameterError(f"{name} has no value, it must be {_EXAMPLES[parameter.element_type]}")
    else:
        accepted = _accept_element(parameter, value, f"{name} is")
    complaint = parameter.check(accepted) if parameter.check else None
    if complaint:
        raise ParameterError(f"{name} is {_shown(accepted)}: {complaint}")
    return accepted


def filled(elements: Iterable[Any]) -> list[Any]:
    """The elements of a list; ``[""]`` is the list of no strings."""
    elements = list(elements)
    return [] if elements == [""] else elements


def to_yaml(node_name: str, parameters: Sequence[Parameter]) -> str:
    """Return a params file with every default and its meaning as a comment.

    Args:
        node_name: Whom the values are for; ``/**`` is every node.
        parameters: In the order of the file.
    """
    lines = [f"{node_name}:", "  ros__parameters:"]
    for parameter in parameters:
        notes = [parameter.text, _sentence(parameter.allowed)]
        if parameter.unit and not parameter.has_range:
            notes.append(f"In {parameter.unit}.")
        if parameter.read_only:
            notes.append("Read at the start only.")
        comment = textwrap.wrap(" ".join(note for note in notes if note), 100, break_long_words=False)
        lines += ["", *(f"    # {line}" for line in comment)]
        lines.append(f"    {parameter.name}: {yaml_value(parameter.default)}")
    return "\n".join(lines) + "\n"


def to_markdown(parameters: Sequence[Parameter]) -> str:
    """Return a table of the parameters for the documentation."""
    rows = ["| parameter | type | default | allowed | meaning |", "|---|---|---|---|---|"]
    for parameter in parameters:
        allowed = parameter.allowed or parameter.unit
        text = f"{parameter.text} Read at the start only." if parameter.read_only else parameter.text
        name, default = f"`{parameter.name}`", f"`{yaml_value(parameter.default)}`"
        cells = (name, parameter.type_name, default, allowed, text)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def default_text(parameter: Parameter) -> str:
    """The default as it is written in a params file or after ``NAME:=``."""
    return yaml_value(parameter.default)


def yaml_value(value: Value) -> str:
    """A value as it is written in a params file."""
    if isinstance(value, list):
        return "[" + ", ".join(_yaml_scalar(element) for element in value) + "]"
    return _yaml_scalar(value)


def _accept_element(parameter: Parameter, value: Any, subject: str) -> Any:
    wanted: Any = parameter.element_type
    if wanted is float and type(value) is int:
        value = float(value)
    # A choice that looks like a number, as in `image_bits: 12`, or an id.
    if type(value) is int and (parameter.numbers or str(value) in parameter.choices):
        value = str(value)
    if type(value) is not wanted:
        advice = "; write it in quotes" if wanted is str else ""
        raise ParameterError(f"{subject} {_shown(value)}, it must be {_EXAMPLES[wanted]}{advice}")
    if wanted is float and not math.isfinite(value):
        raise ParameterError(f"{subject} {value}, it must be a finite number")
    if wanted is str and len(value) > MAX_CHARACTERS:
        raise ParameterError(f"{subject} {_shown(value)}, it must have at most {MAX_CHARACTERS}")
    too_small = parameter.minimum is not None and value < parameter.minimum
    too_large = parameter.maximum is not None and value > parameter.maximum
    if too_small or too_large:
        raise ParameterError(f"{subject} {_shown(value)}, it must be {parameter.allowed}")
    if parameter.choices and value not in parameter.choices:
        meant = did_you_mean(value, parameter.choices)
        raise ParameterError(f"{subject} {_shown(value)}, it must be {parameter.allowed}{meant}")
    return value


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}." if words else ""


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"'{shortened(value)}'"
    return str(value).lower() if isinstance(value, bool) else shortened(str(value))


def _yaml_scalar(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
        return '"' + "".join(escapes.get(character, character) for character in value) + '"'
    text = repr(value)
    # YAML 1.1 reads 1e-06 as a string: a float needs its point.
    return text.replace("e", ".0e") if "e" in text and "." not in text else text
