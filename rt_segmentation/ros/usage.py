"""A node's command line: what `--help` prints, and arguments that nobody reads."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rclpy.logging import get_logger

from rt_segmentation.ros.parameters import Parameter, default_text
from rt_segmentation.ros.spelling import shortened
from rt_segmentation.text import nobody_reads_stdout


def answered(name: str, text: str, parameters: Sequence[Parameter], arguments: Sequence[str]) -> int | None:
    """Answer a command line that starts no node: one that asks for help, or has what ROS does not read.

    Args:
        name: the node's.
        text: what it does, in a sentence.
        parameters: of the node.
        arguments: the command line, with the program's name first.

    Returns:
        The exit status, or None where the node is to start.
    """
    rest = _outside_ros_args(arguments[1:])
    if any(argument in ("-h", "--help") for argument in rest):
        try:
            print(usage(name, text, parameters), flush=True)
        except BrokenPipeError:
            # As of `--help | head`.
            if not nobody_reads_stdout():
                raise
        return 0
    names = {parameter.name for parameter in parameters}
    # rcl takes FROM:=TO for the remapping of a topic, as in ROS 1, and of a parameter's name it does nothing.
    rest = [argument for argument in rest if ":=" not in argument or argument.partition(":=")[0] in names]
    if rest:
        get_logger(name).fatal(
            f"the argument '{shortened(rest[0])}' is not understood; parameters are given as"
            " --ros-args -p NAME:=VALUE, and --help lists them"
        )
        return 2
    return None


def usage(name: str, text: str, parameters: Sequence[Parameter]) -> str:
    """The page that `--help` prints."""
    lines = [
        f"usage: {name} [--ros-args [-p NAME:=VALUE] [--params-file FILE] [-r FROM:=TO] ...]",
        "",
        text,
        "",
        "parameters:",
    ]
    for parameter in parameters:
        facts = ", ".join(filter(None, (parameter.type_name, parameter.allowed)))
        lines.append(f"  {parameter.name} ({facts}; default {default_text(parameter)})")
        lines += textwrap.wrap(parameter.text, 100, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def _outside_ros_args(arguments: Iterable[str]) -> list[str]:
    rest, of_ros = [], False
    for argument in arguments:
        if argument == "--ros-args" or (of_ros and argument == "--"):
            of_ros = argument == "--ros-args"
        elif not of_ros:
            rest.append(argument)
    return rest
