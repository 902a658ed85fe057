"""What goes wrong when a foreign checkpoint is imported."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, is not known or does not fit; the message names the file and why."""
