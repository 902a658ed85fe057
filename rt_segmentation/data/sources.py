"""Images for a camera without a camera: a folder, a video file, or the synthetic street."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from rt_segmentation.data.dataset import DatasetError, levels_of, read_labels, read_rgb
from rt_segmentation.data.synthetic import CAMERA_HEIGHT_M, StreetScene
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import IMAGE_SUFFIXES, FilesByName, files_in, other_files, user_path
from rt_segmentation.imaging import native_messages
from rt_segmentation.imaging.convert import resize_labels
from rt_segmentation.imaging.files import path_for_opencv
from rt_segmentation.imaging.levels import AUTO
from rt_segmentation.text import printable

STREET = "street"
STREET_SIZE = (640, 360)

_log = logging.getLogger(__name__)


class SourceError(RtSegmentationError, ValueError):
    """A source without images; the message is one sentence that names it and what is wrong."""


class Geometry(NamedTuple):
    """The camera of an image, without distortion, and how far everything in it is.

    Attributes:
        focal_px: Focal length [px].
        cx: Principal point [px]; pixel centres are whole.
        cy: [px]
        depth: Renders the depth along the optical axis [m], float32 (H, W), infinite where there is nothing.
    """

    focal_px: float
    cx: float
    cy: float
    depth: Callable[[], np.ndarray]


class SourceImage(NamedTuple):
    """One image: rgb uint8 (H, W, 3), its true labels uint8 (H, W) and geometry where known, its name."""

    rgb: np.ndarray
    labels: np.ndarray | None
    name: str
    geometry: Geometry | None = None


class ImageSource(Protocol):
    """Anything that gives images in order; iterating again starts again at the first.

    Attributes:
        text: What it is, for a log.
        has_labels: Whether its images come with true labels.
        camera_height_m: The camera's height over the ground where the geometry is known [m], else None.
    """

    text: str
    has_labels: bool
    camera_height_m: float | None

    def __iter__(self) -> Iterator[SourceImage]: ...


class FolderSource:
    """The images of a folder, sorted by name; a file that cannot be read is skipped and counted.

    Args:
        path: Folder of images by their suffixes, `IMAGE_SUFFIXES`; or one such file.
        labels: Folder of label PNGs, a class id a pixel, with the images' stems, or None.
        width: Width of the images in px; 0 keeps theirs, or their aspect ratio where `height` is given.
        height: Likewise.
        image_bits: How many bits 16-bit images use, or 'auto': then some of the images decide, for all.
        on_warning: Called with one sentence for each file skipped.

    Attributes:
        skipped: Files skipped so far.
        passed_over: Names of the folder's other files, whose suffixes are no image's.

    Raises:
        SourceError: a folder is missing or has no images, or `image_bits` is wrong; while iterating, when
            none of them could be read.
    """

    def __init__(
        self,
        path: str | Path,
        labels: str | Path | None = None,
        *,
        width: int = 0,
        height: int = 0,
        image_bits: str | int = AUTO,
        on_warning: Callable[[str], None] = _log.warning,
    ) -> None:
        folder = Path(path)
        alone = folder.is_file()
        self._labels = None if labels is None else Path(labels)
        for wanted in (folder.parent if alone else folder, self._labels):
            if wanted is not None and not wanted.is_dir():
                raise SourceError(f"folder '{printable(wanted)}' does not exist")
        self._files = [folder] if alone else files_in(folder)
        self.passed_over = [] if alone else other_files(folder)
        if not self._files:
            raise SourceError(f"folder '{printable(folder)}' has no images ({', '.join(IMAGE_SUFFIXES)})")
        try:
            self._levels = levels_of(self._files, image_bits)
        except DatasetError as error:
            raise SourceError(str(error)) from error
        self._label_files = FilesByName([] if labels is None else files_in(Path(labels), (".png",)))
        self._size = (width, height)
        self._on_warning = on_warning
        self.skipped = 0
        self._first_problem = ""
        self.has_labels = labels is not None
        self.camera_height_m: float | None = None
        self.text = f"{len(self._files)} images of {printable(folder)}"

    @property
    def names(self) -> list[str]:
        """The images' names, in order, as they have them when they are read."""
        return [printable(file.name) for file in self._files]

    def __len__(self) -> int:
        return len(self._files)

    def check_all_read(self) -> None:
        """Say at the end which files were passed over for their names, and fail where an image was skipped.

        Raises:
            SourceError: images were skipped.
        """
        if self.passed_over:
            count = len(self.passed_over)
            suffixes = sorted({Path(name).suffix.lower() or "no suffix" for name in self.passed_over})
            files = "file is" if count == 1 else "files are"
            self._on_warning(
                printable(
                    f"{count} other {files} passed over ({', '.join(suffixes)}):"
                    f" names of images end with {', '.join(IMAGE_SUFFIXES)}"
                )
            )
        if self.skipped == len(self._files):
            raise SourceError(f"none of the {self.text} could be used; {self._first_problem}")
        if self.skipped:
            raise SourceError(
                f"{self.skipped} of the {self.text} could not be used, as said above; all others are done"
            )

    def skip(self, image: SourceImage, why: str) -> None:
        """Count and name an image that was read and cannot be used.

        Args:
            image: one of the source's.
            why: in a sentence.
        """
        height, width = image.rgb.shape[:2]
        self._skip(f"'{image.name}' of {width}x{height}: {why}")

    def _skip(self, problem: str) -> None:
        self.skipped += 1
        self._first_problem = self._first_problem or printable(problem)
        self._on_warning(printable(f"skipped {problem}"))

    def __iter__(self) -> Iterator[SourceImage]:
        unreadable = 0
        for file in self._files:
            try:
                with native_messages.logged():
                    image = self._read(file)
                yield image
            except (DatasetError, cv2.error) as error:
                unreadable += 1
                self._skip(f"'{file.name}': {error}")
        if unreadable == len(self._files):
            raise SourceError(f"none of the {self.text} could be read; {self._first_problem}")

    def _read(self, file: Path) -> SourceImage:
        rgb = read_rgb(file, self._levels)
        labels = None
        if self._labels is not None:
            wanted = f"{file.stem}.png"
            label_file = self._label_files.find(wanted)
            if label_file is None:
                raise DatasetError(f"there is no label image {self._labels / wanted}")
            labels = read_labels(label_file)
            if labels.shape != rgb.shape[:2]:
                raise DatasetError(
                    f"its labels are {labels.shape[1]}x{labels.shape[0]}, not {rgb.shape[1]}x{rgb.shape[0]}"
                )
        return SourceImage(*_resized(rgb, labels, self._size), printable(file.name))


class VideoSource:
    """The frames of a video file.

    Args:
        path: Any file that OpenCV can play.
        width: Width of the images in px; 0 keeps theirs, or their aspect ratio where `height` is given.
        height: Likewise.

    Attributes:
        rate_hz: that the file states; 0 if it states none.

    Raises:
        SourceError: the file is missing or is no video.
    """

    has_labels = False
    camera_height_m: float | None = None

    def __init__(self, path: str | Path, *, width: int = 0, height: int = 0) -> None:
        self._path = Path(path)
        self._size = (width, height)
        self.text = f"video {printable(self._path)}"
        if not self._path.is_file():
            raise SourceError(f"video '{printable(path)}' does not exist")
        with self._opened() as capture:
            if not capture.read()[0]:
                raise SourceError(f"'{printable(path)}' is not a video that OpenCV can read")
            self.rate_hz = float(capture.get(cv2.CAP_PROP_FPS))

    def __iter__(self) -> Iterator[SourceImage]:
        with self._opened() as capture:
            for number in itertools.count():
                there, bgr = capture.read()
                if not there:
                    return
                rgb, _ = _resized(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), None, self._size)
                yield SourceImage(rgb, None, f"{printable(self._path.stem)}_{number:06d}")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[cv2.VideoCapture]:
        with path_for_opencv(self._path) as path:
            capture = cv2.VideoCapture(path)
            try:
                yield capture
            finally:
                capture.release()


class StreetSource:
    """The synthetic street with its exact labels, without an end.

    Args:
        seed: Which street.
        width: Of the images in px; 0 with `height` 0 is 640x360, one 0 keeps 16:9.
        height: Likewise.
        rate_hz: Images per second of the scene's own time.

    Raises:
        SourceError: the images would be too small, or the seed is negative.
    """

    has_labels = True
    camera_height_m: float | None = CAMERA_HEIGHT_M

    def __init__(self, seed: int, *, width: int = 0, height: int = 0, rate_hz: float) -> None:
        width, height = _fitted(STREET_SIZE, (width, height))
        try:
            self._scene = StreetScene(seed, width, height)
        except ValueError as error:
            raise SourceError(str(error)) from error
        self._seed = seed
        self._rate_hz = rate_hz
        self.text = f"street {seed} of {width}x{height} px"

    def __iter__(self) -> Iterator[SourceImage]:
        for number in itertools.count():
            time_s = number / self._rate_hz
            rgb, labels = self._scene.render(time_s)
            geometry = Geometry(*self._scene.pinhole(time_s), partial(self._scene.render_depth, time_s))
            yield SourceImage(rgb, labels, f"street_{self._seed}_{number:06d}", geometry)


def open_source(
    source: str,
    labels: str = "",
    *,
    seed: int = 0,
    width: int = 0,
    height: int = 0,
    rate_hz: float,
    image_bits: str | int = AUTO,
    on_warning: Callable[[str], None] = _log.warning,
) -> ImageSource:
    """Open what `source` names: 'street', a folder of images, or a video file.

    Args:
        source: 'street' or a path.
        labels: Folder of label PNGs for a folder of images, or ''.
        seed: Of the street.
        width: In px; 0 keeps the source's.
        height: In px; 0 keeps the source's.
        rate_hz: Images per second, for the street's own time.
        image_bits: How many bits the 16-bit images of a folder use, or 'auto'.
        on_warning: Called with one sentence for each file skipped.

    Raises:
        SourceError: there is no such source, or it has no images, or labels are given for what is no folder.
    """
    path = user_path(source)
    if source != STREET and path.is_dir():
        truth = user_path(labels) if labels else None
        return FolderSource(
            path, truth, width=width, height=height, image_bits=image_bits, on_warning=on_warning
        )
    if labels:
        raise SourceError(
            printable(f"labels '{labels}' go with a folder of images, and the source is '{source}'")
        )
    if source == STREET:
        return StreetSource(seed, width=width, height=height, rate_hz=rate_hz)
    if not path.exists():
        raise SourceError(
            f"source '{printable(source)}' is neither '{STREET}' nor an existing folder or video file"
        )
    return VideoSource(path, width=width, height=height)


def _fitted(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """The wanted (width, height), where 0 is the other side's share of `size`."""
    (width, height), (wanted_width, wanted_height) = size, wanted
    if wanted_width and wanted_height:
        return wanted
    if wanted_width:
        return wanted_width, max(1, round(height * wanted_width / width))
    if wanted_height:
        return max(1, round(width * wanted_height / height)), wanted_height
    return size


def _resized(
    rgb: np.ndarray, labels: np.ndarray | None, wanted: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    height, width = rgb.shape[:2]
    size = _fitted((width, height), wanted)
    if size == (width, height):
        return rgb, labels
    shrinks = size[0] * size[1] < width * height
    rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return rgb, None if labels is None else resize_labels(labels, size)
