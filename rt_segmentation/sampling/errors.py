"""What can be wrong with a sample of frames."""

from __future__ import annotations

from rt_segmentation.errors import RtSegmentationError


class SampleError(RtSegmentationError, ValueError):
    """Frames cannot be chosen or written; the message says why."""
