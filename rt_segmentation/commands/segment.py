"""`rt_seg segment`: masks of images, of a folder, of a video or of a camera."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rt_segmentation.commands.once_per_size import OncePerSize
from rt_segmentation.commands.options import add_engine, add_groups, add_image_bits
from rt_segmentation.commands.outputs import check_output
from rt_segmentation.commands.progress import progress
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import check_folder, user_path
from rt_segmentation.text import counted, printable

if TYPE_CHECKING:
    import numpy as np

    from rt_segmentation.data.sources import ImageSource
    from rt_segmentation.imaging.video import VideoWriter
    from rt_segmentation.inference.segmenter import Segmentation

KINDS = ("labels", "overlay", "color", "confidence", "video")
SUFFIXES = {"labels": ".png", "overlay": ".jpg", "color": ".png", "confidence": ".png"}
VIDEO_NAME = "overlay.mp4"
DEFAULT_RATE_HZ = 30.0


class SegmentError(RtSegmentationError, ValueError):
    """Arguments that do not go together, or files that would be replaced; the message says which."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "source", help="image, folder, video or camera (a number, or a device such as /dev/video0)"
    )
    parser.add_argument(
        "--model", default="enet", help="model: a name, or the path of a manifest (default enet)"
    )
    parser.add_argument(
        "--out", type=user_path, default=Path("segmented"), help="output folder (default segmented)"
    )
    parser.add_argument(
        "--save",
        default="",
        metavar="WHAT",
        help="comma-separated outputs from labels,overlay,color,confidence,video"
        " (default labels,overlay; of videos and cameras video)",
    )
    parser.add_argument("--show", action="store_true", help="show the overlay in a window; press q to stop")
    parser.add_argument("--frames", type=int, help="stop after this many frames")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    add_engine(parser)
    add_groups(parser)
    add_image_bits(parser)


def main(arguments: argparse.Namespace) -> None:
    """Segment every image, write what was asked for, and print how fast it went.

    Raises:
        SourceError: there are no images; or some cannot be read or segmented, when all others are done.
        SegmentError: unknown kinds of files, or files that are there and may not be replaced; or a file
            cannot be written, after those before it; or a video, after all else.
        ModelError, EngineError, GroupsError: the model cannot be run, or not with these groups.
        ImageError: a stream's frames are too small or too large.
        KeyboardInterrupt: Ctrl-C, when what there is has been finished.
    """
    from rt_segmentation.api import Segmenter
    from rt_segmentation.data.capture import CaptureSource
    from rt_segmentation.data.sources import FolderSource
    from rt_segmentation.imaging.errors import ImageError
    from rt_segmentation.inference.engines import EngineError, in_words, what_ran

    source = _open(arguments.source, arguments.image_bits)
    is_stream = not isinstance(source, FolderSource)
    kinds = _kinds(arguments.save or ("video" if is_stream else "labels,overlay"))
    if arguments.show:
        _check_window()
    if arguments.frames is not None and arguments.frames < 1:
        raise SegmentError(f"--frames is {arguments.frames}; it must be 1 or more")
    folder = user_path(arguments.source)
    if folder.is_dir() and arguments.out.is_dir() and arguments.out.samefile(folder):
        raise SegmentError(
            "--out is the folder of the images, where the next run would take the masks for images; it must"
            " be another one"
        )
    names = source.names if isinstance(source, FolderSource) else []
    files = _Files(arguments.out, kinds, arguments.overwrite, getattr(source, "rate_hz", 0.0), names)
    files.check(names[: arguments.frames])
    segmenter = Segmenter(arguments.model, arguments.engine, arguments.precision, groups=arguments.groups)
    manifest = segmenter.config.manifest
    if "confidence" in kinds and not manifest.has_confidence:
        raise SegmentError(
            f"model '{manifest.name}' has no confidence to save: its ONNX graph gives labels alone"
        )
    segmented = OncePerSize(segmenter)
    frames = None if arguments.frames is None else min(arguments.frames, sys.maxsize)
    images = itertools.islice(source, frames)
    count, interrupted, problem = 0, False, ""
    sizes: set[tuple[int, ...]] = set()
    taken_s: list[float] = []
    try:
        for image in progress(images, len(names[: arguments.frames]) or arguments.frames or 0):
            started = time.perf_counter()
            try:
                result = segmented(image.rgb, "confidence" in kinds)
            except (EngineError, ImageError) as error:
                # Another image may have another size; all frames of a stream have the same.
                if not isinstance(source, FolderSource):
                    raise
                source.skip(image, str(error))
                continue
            if image.rgb.shape in sizes:
                taken_s.append(time.perf_counter() - started)
            sizes.add(image.rgb.shape)  # the first image of a size waits for its engine
            count += 1
            try:
                files.write(image.name, result)
            except OSError as error:
                problem = f"{error}; stopped at image {printable(image.name)}"
                break
            if arguments.show and not _show(result):
                break
    except KeyboardInterrupt:
        # This is how a camera's images end; those of a folder or a file have an end of their own.
        interrupted = not isinstance(source, CaptureSource)
        print(file=sys.stderr)
    finally:
        files.close()
    print(
        f"{counted(count, 'image')} segmented by {segmenter.config.manifest.name}"
        f" on {in_words(*what_ran(segmenter.config.engine))}"
        + (f", {sum(taken_s) / len(taken_s) * 1e3:.1f} ms per image" if taken_s else "")
        + (f"; {counted(files.written, 'file')} in {printable(arguments.out)}" if files.written else "")
    )
    if problem := problem or files.problem:
        # What was printed comes first.
        sys.stdout.flush()
        raise SegmentError(problem)
    if interrupted:
        raise KeyboardInterrupt
    if isinstance(source, FolderSource):
        source.check_all_read()


def _open(source: str, image_bits: str) -> ImageSource:
    from rt_segmentation.data.capture import CaptureSource
    from rt_segmentation.data.sources import STREET, FolderSource, SourceError, open_source
    from rt_segmentation.files import IMAGE_SUFFIXES

    path = user_path(source)
    if source.isdecimal() or source.startswith("/dev/video"):
        return CaptureSource(int(source) if source.isdecimal() else source)
    if path.is_dir() or (path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES):
        return FolderSource(path, image_bits=image_bits)
    if source != STREET and not path.is_file():
        raise SegmentError(
            f"'{printable(source)}' is no image, folder or video that exists, nor a camera's number, nor"
            f" '{STREET}'"
        )
    try:
        return open_source(source, rate_hz=DEFAULT_RATE_HZ)
    except SourceError as error:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise SegmentError(f"{error}, and not an image, whose name ends with {suffixes}") from error


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise SegmentError(f"--save has '{unknown[0] if unknown else text}'; it takes {', '.join(KINDS)}")
    return kinds


class _Files:
    """Writes what was asked for of each result, and replaces nothing unless told to.

    Attributes:
        written: number of files.
        problem: why there is no video, in a sentence, or ''.
    """

    def __init__(
        self, folder: Path, kinds: tuple[str, ...], overwrite: bool, rate_hz: float, names: list[str]
    ) -> None:
        self._stems = _stems(names)
        self._folder, self._kinds, self._overwrite = folder, kinds, overwrite
        self._rate_hz = rate_hz or DEFAULT_RATE_HZ
        self._video: VideoWriter | None = None
        self.written = 0
        self.problem = ""

    def check(self, names: list[str]) -> None:
        """Say before the work, and not after half of it, what stands in its way."""
        if self._folder.exists() and not self._folder.is_dir():
            raise SegmentError(f"--out is {printable(self._folder)}, which is a file; it must be a folder")
        check_output("out", self._folder, check_folder)
        if "video" in self._kinds:
            self._refuse(self._folder / VIDEO_NAME)
        for name in names:
            for path in self._paths(name).values():
                self._refuse(path)

    def write(self, name: str, result: Segmentation) -> None:
        from rt_segmentation.imaging.pictures import write_picture
        from rt_segmentation.imaging.video import VideoWriter

        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SegmentError(
                f"--out is {printable(self._folder)}, which cannot be made: {error}"
            ) from error
        for kind, path in self._paths(name).items():
            self._refuse(path)
            write_picture(path, _picture(kind, result))
            self.written += 1
        if "video" in self._kinds and not self.problem:
            self._video = self._video or VideoWriter(self._folder / VIDEO_NAME, self._rate_hz)
            try:
                self._video.write(result.overlay())
            except OSError as error:
                # It costs no other files; without any there is nothing left to do.
                if self._kinds == ("video",):
                    raise
                self.problem = str(error)

    def close(self) -> None:
        if self._video is None or self.problem:
            return
        try:
            self.written += self._video.close()
        except OSError as error:
            self.problem = str(error)

    def _paths(self, name: str) -> dict[str, Path]:
        # A frame of a video or of a camera is no file and has no suffix.
        stem = self._stems.get(name, name)
        return {
            kind: self._folder / f"{stem}_{kind}{SUFFIXES[kind]}" for kind in self._kinds if kind in SUFFIXES
        }

    def _refuse(self, path: Path) -> None:
        if path.exists() and not self._overwrite:
            raise SegmentError(
                f"{printable(path)} is there already; give --overwrite, or another folder with --out"
            )


def _stems(names: list[str]) -> dict[str, str]:
    """What the files of each image begin with: its name without suffix, or all of it where others have that.

    Where a.jpg and a.png are both there, their suffixes tell their masks apart; and then a.jpg.png needs its
    own as well.
    """
    stems = {name: Path(name).stem for name in names}
    while True:
        count = Counter(stems.values())
        shared = [name for name, stem in stems.items() if count[stem] > 1 and stem != name]
        if not shared:
            return stems
        stems.update((name, name) for name in shared)


def _picture(kind: str, result: Segmentation) -> np.ndarray:
    if kind == "labels":
        return result.labels
    if kind == "confidence":
        assert result.confidence is not None
        return result.confidence
    return result.colorize() if kind == "color" else result.overlay()


def _check_window() -> None:
    import cv2

    try:
        cv2.namedWindow("rt_seg segment")
    except cv2.error as error:
        raise SegmentError(
            "--show needs an OpenCV that opens windows: the pip package opencv-python-headless has none,"
            " opencv-python and python3-opencv of apt do; and a screen"
        ) from error


def _show(result: Segmentation) -> bool:
    import cv2

    cv2.imshow("rt_seg segment", result.overlay()[..., ::-1])
    return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)
