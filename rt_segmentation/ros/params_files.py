"""Which nodes the sections of a params file are for, as rcl reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from rt_segmentation.settings import load_yaml

# How the names of its temporary files begin.
_LAUNCH_ROS = "launch_params_"


def overlooked(arguments: Sequence[str], node_name: str, usual_name: str = "") -> list[str]:
    """A sentence for each params file on a command line that means a node and does not reach it.

    rcl passes over a section whose name, namespace included, is not the node's, and says nothing.

    Args:
        arguments: the process's command line.
        node_name: the node's, with its namespace.
        usual_name: its name, without a namespace, unless it is started under another.
    """
    sentences = []
    for path in _files(arguments):
        names = sections(Path(path))
        meant = [name for name in names if _last(name) in (_last(node_name), usual_name)]
        if meant and not any(reaches(name, node_name) for name in names):
            sentences.append(f"params file {path} is not used: {advice(meant[0], node_name)}")
    return sentences


def shared_names(arguments: Sequence[str]) -> set[str]:
    """The parameters that a command line's params files have in sections for nodes of any name alone.

    They may be meant for others. A node's own parameters in a launch file are none: launch_ros writes them
    into such a section as well, of a temporary file.
    """
    shared: set[str] = set()
    own = {argument.partition(":=")[0].rpartition(":")[2] for argument in arguments if ":=" in argument}
    for file in _files(arguments):
        path = Path(file)
        for name, values in _sections(_document(path), ""):
            is_shared = "*" in _last(name) and not path.name.startswith(_LAUNCH_ROS)
            (shared if is_shared else own).update(_dotted(values))
    return shared - own


def advice(section: str, node_name: str) -> str:
    """What to write over a section in place of a name that does not reach the node."""
    return (
        f"its section is for '{section}', and this node is {node_name}; write '/**/{_last(node_name)}:' over"
        " it for any namespace"
    )


def sections(path: Path) -> list[str]:
    """The node names, with their namespaces and wildcards, of a params file; none where it is not one."""
    return [name for name, _ in _sections(_document(path), "")]


def yaml_problem(path: Path) -> str:
    """Why a file cannot be read as YAML, on one line; empty if it can."""
    try:
        load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        return " ".join(str(error).split())
    return ""


def value_for(path: Path, node_name: str, parameter: str) -> Any:
    """What a params file, after the package's own, sets a node's parameter to, None where it does not."""
    found = None
    for _, values in _in_order(path, node_name):
        found = values.get(parameter, found)
    return found


def overriding(path: Path, node_name: str, parameter: str) -> str:
    """The section of a params file that beats a later file's section of the node's own name; '' where none.

    rcl keeps sections in the order in which their names first come, over all files, and the last one counts.
    """
    own, found = False, ""
    for name, values in _in_order(path, node_name):
        if name == node_name:
            own, found = True, ""
        elif own and parameter in values:
            found = name
    return found


def _in_order(path: Path, node_name: str) -> list[tuple[str, dict[str, Any]]]:
    """The sections for a node; that for all nodes is the first, as it is in the package's own file."""
    found = [
        (name, values)
        for name, values in _sections(_document(path), "")
        if reaches(name, node_name) and isinstance(values, dict)
    ]
    return sorted(found, key=lambda section: section[0] != "/**")


def reaches(section: str, node_name: str) -> bool:
    """Whether a section's values are for a node: `*` stands for one part of its name, `**` for any number."""
    pattern = re.escape(section).replace(r"/\*\*", r"(/\w+)*").replace(r"/\*", r"(/\w+)")
    return re.fullmatch(pattern, node_name) is not None


def _document(path: Path) -> Any:
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    # Not ours to judge: rcl reads the file, too, and says what is wrong with it.
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _sections(tree: Any, above: str) -> Iterator[tuple[str, Any]]:
    """The name over each `ros__parameters`, and what is below it."""
    if not isinstance(tree, dict):
        return
    for key, below in tree.items():
        if key == "ros__parameters":
            yield above, below
        else:
            yield from _sections(below, f"{above}/{str(key).strip('/')}")


def _dotted(tree: Any, above: str = "") -> Iterator[str]:
    """The names of parameters; what is nested is joined by dots."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if isinstance(value, dict):
            yield from _dotted(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def _files(arguments: Sequence[str]) -> Iterator[str]:
    """The params files of a command line; they stand between `--ros-args` and `--`."""
    ours = False
    for argument, value in zip(arguments, [*arguments[1:], ""]):
        if argument in ("--ros-args", "--"):
            ours = argument == "--ros-args"
        elif ours and argument == "--params-file":
            yield value


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]
