"""A table of parameters on a node: declared, and checked at the start and at every change."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rt_segmentation.ros.parameters import Parameter, ParameterError, accept, filled, yaml_value
from rt_segmentation.ros.params_files import overlooked, shared_names
from rt_segmentation.ros.spelling import did_you_mean, is_slip, listed, shortened

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.node import Node
    from rclpy.parameter import Parameter as RosParameter

# What rclpy itself declares, in some distributions only.
OWNED_BY_RCLPY = ("use_sim_time", "start_type_description_service")
QOS_OVERRIDES = "qos_overrides."

_ROS_SCALARS: dict[type, str] = {bool: "BOOL", int: "INTEGER", float: "DOUBLE", str: "STRING"}
_INT64_LIMIT = 2**63


def refuse_unknown(
    node: Node,
    parameters: Sequence[Parameter],
    usual_name: str = "",
    shared: Iterable[str] = (),
    elsewhere: Callable[[str], bool] = lambda _: False,
) -> None:
    """Say which names of a params file or the command line the node has not; rclpy ignores them silently.

    A name that is nearly one of the node's is a slip and stops the start, unless it stands in a section for
    all nodes: a camera's driver has an `image_width`. It and any other may be meant for other nodes, as in a
    robot's file: one warning has them all. Another warning says which params files mean this node and do not
    reach it.

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
        theirs = name.startswith(QOS_OVERRIDES) or elsewhere(name)
        if not theirs and is_slip(name, known) and name not in shared_names(sys.argv):
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
        current[parameter.name] = filled(value) if parameter.is_list else value
    return current


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
                f"start the node again with {given.name}:={shortened(yaml_value(value))}"
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
