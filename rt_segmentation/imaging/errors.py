"""The errors this room raises: for an image that cannot be used, and for where it was asked to put it."""

from __future__ import annotations

from rt_segmentation.errors import RtSegmentationError

MAX_CHARACTERS = 1000


class ImageError(RtSegmentationError, ValueError):
    """An image from outside that cannot be used; the frame is dropped, the program goes on.

    Attributes:
        reason: A short slug to count drops by: ``truncated``, ``bad_step``, ``bad_size``,
            ``unknown_encoding``, ``undecodable`` or ``roi_outside``; of a cloud's inputs also
            ``missing_field`` and ``bad_calibration``, of a camera over ground ``below_ground`` and
            ``no_ground``.
    """

    def __init__(self, reason: str, message: str) -> None:
        # An encoding's name comes from outside, too, and may be of any length.
        half = MAX_CHARACTERS // 2
        if len(message) > MAX_CHARACTERS:
            message = f"{message[:half]} ... {message[-half:]}"
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        # The default would call the class with the message alone and fail when a worker sends the error home.
        return type(self), (self.reason, str(self))


class PlacementError(RtSegmentationError, ValueError):
    """A region, rotation or size of masks that no image can have; the message is one sentence."""
