"""Options that name files and folders take ``~`` as a shell does, in each command."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from rt_segmentation.cli import build_parser


def options_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Of a parser and of those below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options_of(command)
        else:
            yield action


def test_no_path_is_taken_as_it_is() -> None:
    options = list(options_of(build_parser()))
    assert len(options) > 100
    assert [action.dest for action in options if action.type is Path] == []
