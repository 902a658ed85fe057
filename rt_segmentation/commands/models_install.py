"""`rt_seg models install`: a model of your own, found by its name as the shipped ones are."""

from __future__ import annotations

import argparse

from rt_segmentation.commands.options import add_engine, say
from rt_segmentation.files import user_path
from rt_segmentation.text import one_line, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("path", type=user_path, metavar="PATH", help="the model's manifest (.yaml)")
    parser.add_argument("--name", default="", help="that it gets (default: its own)")
    parser.add_argument(
        "--alias", action="append", help="a short name; may be repeated (default: its own that are free)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the model of that name, and take short names"
    )
    parser.add_argument(
        "--frames",
        type=user_path,
        metavar="DIR",
        help="images on which its engine must label as its network does",
    )
    add_engine(parser)


def main(arguments: argparse.Namespace) -> None:
    """Install a model, and say where it is and what it is called.

    Raises:
        InstallError: a name is taken or is none.
        ModelError, EngineError, ParityError: the model is damaged, or no engine runs it as its network does.
        OSError: the folder cannot be written.
    """
    from rt_segmentation.inference.installing import InstallError, install_model
    from rt_segmentation.inference.parity import Gate
    from rt_segmentation.models import read_manifest

    if arguments.path.suffix not in (".yaml", ".yml"):
        raise InstallError(f"{arguments.path} is no manifest; give the path of the model's .yaml file")
    model, notes = install_model(
        read_manifest(arguments.path),
        arguments.name,
        arguments.alias,
        arguments.overwrite,
        arguments.engine,
        arguments.precision,
        Gate(frames=arguments.frames),
    )
    for note in notes:
        say(printable(one_line(note)))
    also = f" (also {', '.join(model.aliases)})" if model.aliases else ""
    gate = model.training["installed"]["gate"]
    print(printable(one_line(f"{model.path}: {model.name}{also}, checked with {gate}")))
