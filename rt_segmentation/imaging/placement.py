"""Where the pixels of a mask lie in the camera's image: region, rotation, resize and padding, and back.

On its way to the network an image is cut to a region, turned upright, resized, and, with a letterbox, padded.
A `Placement` takes one image there, the network's labels back, and says what that does to the camera's
calibration.

Regions are in whole pixels, and a coordinate of 0 is the outer edge of the first one: resizing multiplies
coordinates, as it does in image_proc's nodes and in the binning of a CameraInfo.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt

from rt_segmentation.imaging.buffers import check_out
from rt_segmentation.imaging.codec import MAX_SIDE_PX, MIN_SIDE_PX
from rt_segmentation.imaging.convert import resize_confidence, resize_labels, to_rgb
from rt_segmentation.imaging.errors import ImageError, PlacementError
from rt_segmentation.imaging.frame import Frame, Region, Size
from rt_segmentation.imaging.render import IGNORE_ID

SIDE_MULTIPLE = 8
"""The networks' sides: all halve their input at least three times."""
INPUT, NETWORK = "input", "network"
"""Names of mask sizes: the camera's image, and what the network makes of it."""
ROTATIONS = (0, 90, 180, 270)

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_TURN = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


class Calibration(NamedTuple):
    """The numbers of a sensor_msgs/CameraInfo that depend on where the image's pixels lie on the sensor.

    Attributes:
        size: (width, height) of the whole sensor [px].
        k: the 3x3 intrinsics of the sensor, row by row.
        p: the 3x4 projection of the sensor, row by row.
        binning: sensor's pixels by pixel of the image, across and down; 0 is 1.
        roi: of the sensor, that the image shows; with a width and height of 0 it is all of it.
    """

    size: Size
    k: tuple[float, ...]
    p: tuple[float, ...]
    binning: tuple[int, int]
    roi: Region


@dataclass(frozen=True)
class Placement:
    """Where one camera's images go in the network, and where its masks come from; made by `place`.

    Attributes:
        image: (width, height) of the camera's image [px].
        region: what of it the network sees.
        rotation: degrees clockwise by which the region is turned for the network: 0, 90, 180 or 270.
        network: (width, height) of the network's input [px].
        content: where in the input the turned and resized region lies; the rest is padding.
        mask: (width, height) of labels and confidence [px].
        cover: what of the camera's image they cover: all of it, or the region.
        padding: the padding's colour (R, G, B).
    """

    image: Size
    region: Region
    rotation: int
    network: Size
    content: Region
    mask: Size
    cover: Region
    padding: tuple[int, int, int] = (0, 0, 0)

    @property
    def is_direct(self) -> bool:
        """Whether the network's input is the mask's part of the image, pixel by pixel of the network."""
        return not self.rotation and self.content.size == self.network and self.cover == self.region

    def to_network(self, frame: Frame, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        """Convert a frame to what the network sees.

        Args:
            frame: of the size `image`.
            out: (height, width, 3) uint8 of the network's size, C-contiguous, to write the result into.

        Returns:
            (height, width, 3) uint8 RGB: ``out`` where it is given.

        Raises:
            ValueError: ``out`` does not fit.
        """
        unpadded = self.content.size == self.network
        if unpadded and not self.rotation:
            return to_rgb(frame, self.network, out, self.region)
        check_out(out, (self.network[1], self.network[0], 3))
        turned = to_rgb(frame, turn(self.content.size, self.rotation), region=self.region)
        if self.rotation:
            turned = _rotated(turned, self.rotation, out if unpadded else None)
        if unpadded:
            return turned
        if out is None:
            out = np.empty((self.network[1], self.network[0], 3), np.uint8)
        out[:] = self.padding
        out[self.content.slices] = turned
        return out

    def own_pixels(self, frame: Frame) -> npt.NDArray[np.uint8] | None:
        """What `to_network` gives, without a copy, where the network sees the frame's own pixels as they are.

        Args:
            frame: of the size `image`.

        Returns:
            (height, width, 3) uint8 RGB, C-contiguous; None where there is something to convert.
        """
        is_whole = self.image == self.region.size == self.content.size == self.network
        if frame.pixel_format != "rgb8" or self.rotation or not is_whole:
            return None
        pixels: npt.NDArray[np.uint8] = frame.planes[0]
        return pixels if pixels.flags.c_contiguous and pixels.flags.writeable else None

    def to_mask(self, frame: Frame) -> npt.NDArray[np.uint8]:
        """Convert the part of a frame that the mask covers to RGB of the mask's size, (H, W, 3) uint8."""
        return to_rgb(frame, self.mask, region=self.cover)

    def labels_back(
        self, labels: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Bring the network's labels to the mask's size; 255 where the network saw nothing.

        Args:
            labels: (H, W) uint8 of the network's size.
            out: (H, W) uint8 of the mask's size, C-contiguous, to write the result into.

        Returns:
            (H, W) uint8: ``out`` where it is given; ``labels`` itself where that is the result already.

        Raises:
            ValueError: ``out`` does not fit.
        """
        return self._back(labels, out, resize_labels, IGNORE_ID)

    def confidence_back(
        self, confidence: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.uint8]:
        """As `labels_back`, for confidence: resized bilinearly, 0 where the network saw nothing."""
        return self._back(confidence, out, resize_confidence, 0)

    def _back(
        self,
        image: npt.NDArray[np.uint8],
        out: npt.NDArray[np.uint8] | None,
        resize: Callable[..., npt.NDArray[np.uint8]],
        outside: int,
    ) -> npt.NDArray[np.uint8]:
        if self.is_direct:
            return resize(image, self.mask, out)
        check_out(out, self.mask[::-1])
        seen = image[self.content.slices]
        if self.rotation:
            seen = _rotated(seen, 360 - self.rotation)
        if self.cover == self.region:
            return resize(seen, self.mask, out)
        if out is None:
            out = np.empty(self.mask[::-1], np.uint8)
        out[:] = outside
        inside = self._region_in_mask()
        if inside.width > 0 and inside.height > 0:
            out[inside.slices] = resize(seen, inside.size, None)
        return out

    def _region_in_mask(self) -> Region:
        """The pixels of the mask whose centres lie in the region."""
        left, right = _pixels(self.region.x, self.region.width, self.mask[0] / self.image[0])
        top, bottom = _pixels(self.region.y, self.region.height, self.mask[1] / self.image[1])
        return Region(left, top, right - left, bottom - top)

    def calibration(self, camera: Calibration) -> Calibration:
        """The calibration of the mask: to the mask what the camera's own is to its image.

        A CameraInfo describes the whole sensor, and a reader takes its region of interest and binning off
        (REP-104, image_geometry): fx / binning_x, (cx - roi.x_offset) / binning_x. So K and P are scaled by
        what the *image* was scaled by, whatever size the message states, and binning stays. Cutting moves the
        region of interest alone. image_proc's crop_decimate and resize nodes have it the same way.
        """
        roi = camera.roi
        if self.cover.size != self.image:
            binning_x, binning_y = (max(1, binning) for binning in camera.binning)
            roi = Region(
                roi.x + self.cover.x * binning_x,
                roi.y + self.cover.y * binning_y,
                self.cover.width * binning_x,
                self.cover.height * binning_y,
            )
            camera = camera._replace(roi=roi)
        if self.mask == self.cover.size:
            return camera
        scale_x, scale_y = (mask / image for mask, image in zip(self.mask, self.cover.size))
        # Offsets are whole numbers: what rounding moves one by, the principal point moves with it.
        x, y = round(roi.x * scale_x), round(roi.y * scale_y)
        k, p = list(camera.k), list(camera.p)
        for index, scale in ((0, scale_x), (1, scale_x), (4, scale_y)):
            k[index] *= scale
        for index, scale in ((0, scale_x), (1, scale_x), (3, scale_x), (5, scale_y), (7, scale_y)):
            p[index] *= scale
        for matrix, index_x, index_y in ((k, 2, 5), (p, 2, 6)):
            matrix[index_x] = (matrix[index_x] - roi.x) * scale_x + x
            matrix[index_y] = (matrix[index_y] - roi.y) * scale_y + y
        size = [round(side * scale) for side, scale in zip(camera.size, (scale_x, scale_y))]
        part = [round(side * scale) for side, scale in zip((roi.width, roi.height), (scale_x, scale_y))]
        given, seen = (roi.size, part) if any(roi.size) else (camera.size, size)
        for axis, (mask, binning) in enumerate(zip(self.mask, camera.binning)):
            # Readers divide by the binning, and what it left over of the sensor must not become a pixel.
            if binning > 1 and given[axis] // binning == self.cover.size[axis]:
                seen[axis] = mask * binning
                size[axis] = max(size[axis], (x, y)[axis] + part[axis])
        return Calibration((size[0], size[1]), tuple(k), tuple(p), camera.binning, Region(x, y, *part))


def place(
    image: Size,
    network: Size,
    *,
    region: Region | None = None,
    rotation: int = 0,
    letterbox: bool = False,
    resolution: str = INPUT,
    own: Size | None = None,
    padding: tuple[int, int, int] = (0, 0, 0),
) -> Placement:
    """Place images of one size.

    Args:
        image: (width, height) of the camera's images [px].
        network: (width, height) at which the network sees them [px].
        region: what of an image the network sees; None for all of it.
        rotation: degrees clockwise by which it is turned upright, one of `ROTATIONS`.
        letterbox: keep the aspect ratio, and pad what that leaves of the network's input.
        resolution: size of the masks: 'input' is the camera's and 'network' the region at the network's
            scale, without padding; as '320x240', the camera's whole image at that size.
        own: the size that the network's would be, if it is another one for the time being: masks of
            resolution 'network' keep its size.
        padding: its colour (R, G, B).

    Raises:
        ImageError: the region is not within the image.
        PlacementError: the resolution is none.
    """
    region = region_of(image, region)
    upright = turn(region.size, rotation)

    def content(size: Size) -> Region:
        return _fitted(upright, size) if letterbox else Region(0, 0, *size)

    cover = Region(0, 0, *image)
    if resolution == NETWORK:
        cover, mask = region, turn(content(own or network).size, rotation)
    else:
        mask = image if resolution == INPUT else parse_size(resolution)
    return Placement(image, region, rotation, network, content(network), mask, cover, padding)


def region_of(image: Size, region: Region | None) -> Region:
    """The region, or the whole of an image (width, height) [px].

    Raises:
        ImageError: it is not within the image.
    """
    if region is None:
        return Region(0, 0, *image)
    right, bottom = region.x + region.width, region.y + region.height
    if min(region.x, region.y) < 0 or right > image[0] or bottom > image[1]:
        raise ImageError(
            "roi_outside",
            f"roi is {list(region)}, which ends at column {right} and row {bottom}, and the image has"
            f" {image[0]}x{image[1]} px; it must lie within the image",
        )
    return region


def width_for(size: Size, height: int) -> int:
    """Width of the network's input that keeps the aspect ratio of a (width, height), a multiple of 8 [px]."""
    width = round(height * size[0] / size[1] / SIDE_MULTIPLE) * SIDE_MULTIPLE
    # A strip of an image must not become a network input that fills the memory.
    return min(max(width, MIN_SIDE_PX), MAX_SIDE_PX)


def turn(size: Size, rotation: int) -> Size:
    """(width, height) of what has this size before a rotation [px], or, as that is the same, after it."""
    return size[::-1] if rotation in (90, 270) else size


def check_roi(roi: Sequence[int]) -> str:
    """Why four numbers are no region, to follow their name and value; empty where they are one."""
    is_list = isinstance(roi, (Sequence, np.ndarray))
    if not is_list or len(roi) != 4 or not all(isinstance(side, (int, np.integer)) for side in roi):
        return "it must be four numbers: x, y, width and height, whole pixels"
    region = Region(*roi)
    if min(region.x, region.y) < 0 or max(region) > MAX_SIDE_PX or min(region.size) < MIN_SIDE_PX:
        return f"x and y must be 0 or more, width and height from {MIN_SIDE_PX} to {MAX_SIDE_PX} px"
    return ""


def check_rotation(rotation: int) -> str:
    """Why a number is no rotation, to follow its name and value; empty where it is one."""
    is_number = isinstance(rotation, Real)  # an array is not, of one number or several
    return "" if is_number and rotation in ROTATIONS else "it must be 0, 90, 180 or 270"


def check_resolution(resolution: str) -> str:
    """Why a text is no resolution of masks, to follow its name and value; empty where it is one."""
    if resolution in (INPUT, NETWORK):
        return ""
    match = _SIZE.fullmatch(resolution)
    if match is None or not all(1 <= int(side) <= MAX_SIDE_PX for side in match.groups()):
        return f"it must be input, network, or a size as 320x240, each side from 1 to {MAX_SIDE_PX} px"
    return ""


def parse_size(text: str) -> Size:
    """(width, height) of a size as '320x240' [px].

    Raises:
        PlacementError: it is none.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise PlacementError(f"'{text}' is no size of masks; it must be one as 320x240")
    return int(match[1]), int(match[2])


def _fitted(size: Size, into: Size) -> Region:
    """The largest place with the aspect ratio of `size` in the middle of a (width, height) [px]."""
    scale = min(into[0] / size[0], into[1] / size[1])
    width, height = (min(max(1, round(side * scale)), most) for side, most in zip(size, into))
    return Region((into[0] - width) // 2, (into[1] - height) // 2, width, height)


def _pixels(start: int, length: int, scale: float) -> tuple[int, int]:
    """First pixel, and the one after the last, whose centres are from `start` to `start + length`, scaled."""
    return math.ceil(start * scale - 0.5), math.ceil((start + length) * scale - 0.5)


def _rotated(
    image: npt.NDArray[np.uint8], rotation: int, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    return cast("npt.NDArray[np.uint8]", cv2.rotate(image, _TURN[rotation], dst=out))
