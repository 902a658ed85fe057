"""What keeps a benchmark from its numbers."""

from __future__ import annotations

from rt_segmentation.errors import RtSegmentationError


class BenchmarkError(RtSegmentationError, RuntimeError):
    """Wrong arguments, or nothing that could be timed; the message says which and why."""
