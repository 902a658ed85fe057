"""Files that a command writes when its work is done: checked before it, and written one without another."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rt_segmentation.commands.options import OptionError, say
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import check_file, check_folder, is_stream
from rt_segmentation.text import printable


class OutputError(RtSegmentationError):
    """Files could not be written after the work; the message says how many."""


def check_outputs(
    arguments: argparse.Namespace, files: Sequence[str] = (), folders: Sequence[str] = ()
) -> None:
    """Say before the work that options name what cannot be written. Nothing is made or changed.

    Args:
        arguments: of the command line.
        files: options that name files, as 'json'; those that are not given are left out.
        folders: options that name folders, which may be there or not.

    Raises:
        OptionError: one cannot be written, or two name the same file.
    """
    named: dict[str, str] = {}
    for name in files:
        path = getattr(arguments, name)
        if path is None:
            continue
        check_output(name, path, check_file)
        other = named.setdefault(os.path.realpath(path), name)
        if other != name and not is_stream(path):
            raise OptionError(f"--{other} and --{name} are both {printable(path)}; give two files")
    for name in folders:
        if getattr(arguments, name) is not None:
            check_output(name, getattr(arguments, name), check_folder)


def check_output(name: str, path: Path, check: Callable[[Path], None]) -> None:
    """Say before the work that what an option names cannot be written.

    Args:
        name: of the option, as 'json'.
        path: that it names.
        check: `check_file` or the like.

    Raises:
        OptionError: it cannot.
    """
    try:
        check(path)
    except OSError as error:
        raise OptionError(f"--{name} is {printable(path)}, which cannot be written: {error}") from error


class Outputs:
    """What is written at a command's end: what fails is told, and everything else is written all the same."""

    def __init__(self) -> None:
        self._failed = self._count = 0

    @contextmanager
    def each(self) -> Iterator[None]:
        """One output, in this block."""
        self._count += 1
        try:
            yield
        except (RtSegmentationError, OSError) as error:
            self._failed += 1
            say(printable(error))

    def check(self) -> None:
        """Let the exit status tell.

        Raises:
            OutputError: something could not be written.
        """
        if self._failed:
            # What was printed comes first.
            sys.stdout.flush()
            raise OutputError(f"{self._failed} of {self._count} outputs could not be written, as said above")
