"""The error of this room."""

from rt_segmentation.errors import RtSegmentationError


class ReportError(RtSegmentationError, ValueError):
    """A report cannot be made of what was given."""
