"""What can be wrong with a bag."""

from __future__ import annotations

from rt_segmentation.errors import RtSegmentationError


class BagError(RtSegmentationError, ValueError):
    """A bag that cannot be read or written; the message names the bag and what is wrong."""


class Broken(Exception):
    """A file of a bag is damaged; the message is a predicate: the file's name goes before it."""


class Places:
    """Where a file is damaged, collected while what is whole is read."""

    SHOWN = 3

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, after: int, reason: str) -> None:
        """Note damage behind the file's `after`-th message."""
        self._found.append(f"broke after its message {after}: {reason}")

    def check(self) -> None:
        """Raise what was found.

        Raises:
            Broken: something was.
        """
        if self._found:
            more = len(self._found) - self.SHOWN
            rest = f", and {more} times more" if more > 0 else ""
            raise Broken(", ".join(self._found[: self.SHOWN]) + rest)


def rosbags_missing(error: ImportError) -> BagError:
    """The sentence for a machine without the library."""
    return BagError(f"bags need the Python package rosbags from 0.11.7 on ({error}): pip install rosbags")
