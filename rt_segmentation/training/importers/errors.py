"""What goes wrong when a foreign checkpoint is imported."""

from __future__ import annotations

from rt_segmentation.errors import RtSegmentationError


class CheckpointError(RtSegmentationError, ValueError):
    """A checkpoint that cannot be read, is not known or does not fit; the message names the file and why."""
