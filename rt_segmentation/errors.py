"""The base of every error that a user can cause."""

from __future__ import annotations


class RtSegmentationError(Exception):
    """Bad input, a missing file or package, a machine that cannot do what was asked.

    The message is one sentence for the user, who needs no traceback. Any other exception that leaves the
    package is a fault of its own.
    """


class MissingPackageError(RtSegmentationError, RuntimeError):
    """A Python package that is needed is not installed; the message names it and how to install it."""
