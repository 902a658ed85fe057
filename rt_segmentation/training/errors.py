"""The error of this room."""

from rt_segmentation.errors import RtSegmentationError


class TrainingError(RtSegmentationError, RuntimeError):
    """A training that cannot start or go on; the message says why, and what would be right."""
