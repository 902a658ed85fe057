"""Node parameters as data: declared, checked and documented from one table.

rclpy is only touched once there is a node: the params file and the documentation can be made where ROS is not
installed.
"""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.ros.params_files import overlooked
from rt_segmentation.ros.spelling import did_you_mean, is_slip, listed, shortened

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.node import Node
    from rclpy.parameter import Parameter as RosParameter

Value: TypeAlias = "bool | int | float | str | list[bool] | list[int] | list[float] | list[str]"

# What rclpy itself declares, in some distributions only.
OWNED_BY_RCLPY = ("use_sim_time", "start_type_description_service")
QOS_OVERRIDES = "qos_overrides."

_TYPE_NAMES: dict[type, str] = {bool: "boolean", int: "integer", float: "float", str: "string"}
_EXAMPLES: dict[type, str] = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
_ROS_SCALARS: dict[type, str] = {bool: "BOOL", int: "INTEGER", float: "DOUBLE", str: "STRING"}
_INT64_LIMIT = 2**63
# No path is longer.
MAX_CHARACTERS = 4096


class ParameterError(RtSegmentationError, ValueError):
    """A parameter that cannot be used; the message is one sentence that names it and says what is right."""


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

    def __post_init__(self) -> None:
        if isinstance(self.default, list) and not self.default:
            raise ValueError(f"parameter '{self.name}' has an empty list as default, which has no type")
        if self.element_type not in _TYPE_NAMES:
            raise ValueError(f"parameter '{self.name}' has a default of no ROS type: {self.default!r}")
        if self.has_range and self.element_type not in (int, float):
            raise ValueError(f"parameter '{self.name}' has a range but is no number")
        if self.choices and self.element_type is not str:
            raise ValueError(f"parameter '{self.name}' has choices but is no string")
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

    Whole numbers pass for floats, and for choices that are written so, since YAML and the command line read
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
        accepted: Any = [
            _accept_element(parameter, element, f"{name} holds") for element in _filled(elements)
        ]
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


def refuse_unknown(
    node: Node,
    parameters: Sequence[Parameter],
    usual_name: str = "",
    shared: Iterable[str] = (),
    elsewhere: Callable[[str], bool] = lambda _: False,
) -> None:
    """Say which names of a params file or the command line the node has not; rclpy ignores them silently.

    A name that is nearly one of the node's is a slip and stops the start. Any other may be meant for other
    nodes, as in a robot's file with values for all of them: one warning has them all. Another warning says
    which params files mean this node and do not reach it.

    Args:
        node: has declared nothing of its own yet.
        parameters: those that it will have.
        usual_name: the name that it has unless it is started under another.
        shared: names that its params file may have for other nodes of this package.
        elsewhere: whether a name is another node's, however near it is to one of this node's.

    Raises:
        ParameterError: names the first slip and the parameter that was meant.
    """
    known = [parameter.name for parameter in parameters]
    foreign = []
    for name in sorted(_overrides(node)):
        if name in (*known, *shared, *OWNED_BY_RCLPY) or node.has_parameter(name):
            continue
        if not name.startswith(QOS_OVERRIDES) and not elsewhere(name) and is_slip(name, known):
            raise ParameterError(_unknown(name, known))
        foreign.append(name)
    others = [name for name in foreign if not name.startswith(QOS_OVERRIDES)]
    overrides = [name for name in foreign if name.startswith(QOS_OVERRIDES)]
    if others:
        node.get_logger().warning(f"ignored, as this node has no such parameters: {listed(others)}")
    if overrides:
        node.get_logger().warning(f"ignored, as this node's topics take no overrides: {listed(overrides)}")
    for sentence in overlooked(sys.argv, node.get_fully_qualified_name(), usual_name):
        node.get_logger().warning(sentence)


def override(node: Node, parameter: Parameter) -> Any:
    """The value that a parameter will have once it is declared.

    Raises:
        ParameterError: its override is a bad value.
    """
    given = _overrides(node).get(parameter.name)
    return parameter.default if given is None else accept(parameter, given.value)


def declare(
    node: Node, parameters: Sequence[Parameter], along: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Declare parameters on a node, with descriptions, and check every value, at the start and later.

    rclpy checks the descriptor before any callback and answers in its own words ("Parameter x out of range.
    Min: ..."), so the node's own set methods, which its parameter services call too, are wrapped: one
    sentence for each kind of mistake, an unknown name included, and whole numbers are taken for floats.

    Args:
        node: that will have them.
        parameters: not declared yet.
        along: by a parameter's name, others of its kind that a later change of it changes, too, unless the
            same set gives them a value.

    Raises:
        ParameterError: an override has a bad value.
    """
    # All are checked before the first is declared: a refused start leaves nothing half done.
    accepted = [(parameter, override(node, parameter)) for parameter in parameters]
    for parameter, value in accepted:
        stored = (value or [""]) if parameter.is_list else value
        node.declare_parameter(parameter.name, stored, _descriptor(parameter), ignore_override=True)
    _answer_in_sentences(node, parameters, along or {})


def values(node: Node, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return the current values by name, lists as lists; ``[""]`` is the empty list."""
    current = {}
    for parameter in parameters:
        value = node.get_parameter(parameter.name).value
        current[parameter.name] = _filled(value) if parameter.is_list else value
    return current


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
        lines.append(f"    {parameter.name}: {_yaml_value(parameter.default)}")
    return "\n".join(lines) + "\n"


def to_markdown(parameters: Sequence[Parameter]) -> str:
    """Return a table of the parameters for the documentation."""
    rows = ["| parameter | type | default | allowed | meaning |", "|---|---|---|---|---|"]
    for parameter in parameters:
        allowed = parameter.allowed or parameter.unit
        text = f"{parameter.text} Read at the start only." if parameter.read_only else parameter.text
        name, default = f"`{parameter.name}`", f"`{_yaml_value(parameter.default)}`"
        cells = (name, parameter.type_name, default, allowed, text)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def default_text(parameter: Parameter) -> str:
    """The default as it is written in a params file or after ``NAME:=``."""
    return _yaml_value(parameter.default)


def _accept_element(parameter: Parameter, value: Any, subject: str) -> Any:
    wanted: Any = parameter.element_type
    if wanted is float and type(value) is int:
        value = float(value)
    # A choice that looks like a number, as in `image_bits: 12`.
    if type(value) is int and str(value) in parameter.choices:
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


def _overrides(node: Node) -> dict[str, RosParameter[Any]]:
    # rclpy shows overrides of names that are not declared only where it declares them all by itself, and then
    # an empty list of somebody else's, which has no type, ends the node.
    return dict(node._parameter_overrides)


def _unknown(name: str, known: Iterable[str]) -> str:
    return f"unknown parameter '{shortened(name)}'{did_you_mean(name, known)}"


def _answer_in_sentences(
    node: Node, parameters: Sequence[Parameter], along: Mapping[str, Sequence[str]]
) -> None:
    from rcl_interfaces.msg import SetParametersResult
    from rclpy.parameter import Parameter as RosParameter

    table = {parameter.name: parameter for parameter in parameters}
    set_atomically = node.set_parameters_atomically

    def checked(given: RosParameter[Any]) -> RosParameter[Any]:
        if given.name not in table:
            # A name that another table declared, or rclpy itself, is checked there.
            if not node.has_parameter(given.name):
                raise ParameterError(_unknown(given.name, node.get_parameters_by_prefix("")))
            return given
        parameter = table[given.name]
        value = accept(parameter, given.value)
        if parameter.read_only and value != values(node, [parameter])[given.name]:
            raise ParameterError(
                f"parameter '{given.name}' is read at the start only; "
                f"start the node again with {given.name}:={shortened(_yaml_value(value))}"
            )
        return RosParameter(given.name, _ros_type(parameter), value)

    def stays(given: RosParameter[Any]) -> bool:
        """Whether a value that was checked is a read-only parameter's, which has it already."""
        if given.name in table:
            return table[given.name].read_only
        own = node.describe_parameter(given.name).read_only
        return own and node.get_parameter(given.name).value == given.value

    def set_parameters_atomically(parameter_list: list[RosParameter[Any]]) -> SetParametersResult:
        try:
            accepted = [checked(given) for given in parameter_list]
            named = {given.name for given in accepted}
            accepted += [
                RosParameter(name, given.type_, given.value)
                for given in accepted
                for name in along.get(given.name, ())
                if name not in named
            ]
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        # rclpy refuses what is read-only even if nothing changes, as when a dump is loaded back.
        changed = [given for given in accepted if not stays(given)]
        return set_atomically(changed) if changed else SetParametersResult(successful=True)

    def set_parameters(parameter_list: list[RosParameter[Any]]) -> list[SetParametersResult]:
        return [set_parameters_atomically([given]) for given in parameter_list]

    vars(node).update(set_parameters_atomically=set_parameters_atomically, set_parameters=set_parameters)


def _ros_type(parameter: Parameter) -> RosParameter.Type:
    from rclpy.parameter import Parameter as RosParameter

    suffix = "_ARRAY" if parameter.is_list else ""
    return RosParameter.Type[_ROS_SCALARS[parameter.element_type] + suffix]


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    unit = f" [{parameter.unit}]" if parameter.unit else ""
    descriptor = ParameterDescriptor(description=parameter.text + unit, read_only=parameter.read_only)
    if parameter.choices or parameter.is_list:
        # A descriptor's range is for single numbers only.
        descriptor.additional_constraints = parameter.allowed
    elif parameter.has_range and parameter.element_type is int:
        low = -_INT64_LIMIT if parameter.minimum is None else int(parameter.minimum)
        high = _INT64_LIMIT - 1 if parameter.maximum is None else int(parameter.maximum)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
    elif parameter.has_range:
        low_end = -math.inf if parameter.minimum is None else float(parameter.minimum)
        high_end = math.inf if parameter.maximum is None else float(parameter.maximum)
        descriptor.floating_point_range = [FloatingPointRange(from_value=low_end, to_value=high_end)]
    return descriptor


def _filled(elements: Iterable[Any]) -> list[Any]:
    elements = list(elements)
    return [] if elements == [""] else elements


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}." if words else ""


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"'{shortened(value)}'"
    return str(value).lower() if isinstance(value, bool) else shortened(str(value))


def _yaml_value(value: Value) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_yaml_scalar(element) for element in value) + "]"
    return _yaml_scalar(value)


def _yaml_scalar(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
        return '"' + "".join(escapes.get(character, character) for character in value) + '"'
    text = repr(value)
    # YAML 1.1 reads 1e-06 as a string: a float needs its point.
    return text.replace("e", ".0e") if "e" in text and "." not in text else text
