"""What tells the size of a camera's images before they are wanted, so that its engine is built in time."""

from __future__ import annotations

import contextlib
import hashlib
import json

from sensor_msgs.msg import CameraInfo

from rt_segmentation.files import write_atomically
from rt_segmentation.inference.cache import cache_root

Size = tuple[int, int]
"""Width and height [px]."""

FOLDER = "cameras"


def size_by_info(info: CameraInfo) -> Size | None:
    """Of the images that a calibration belongs to (REP-104); None where it does not say."""
    width, height = info.roi.width or info.width, info.roi.height or info.height
    size = width // max(info.binning_x, 1), height // max(info.binning_y, 1)
    return size if all(size) else None


class RememberedSize:
    """The size that a node's camera had when the node ran before, kept in the cache folder.

    Args:
        node: the node's full name.
        topic: the camera's.
    """

    def __init__(self, node: str, topic: str) -> None:
        self._of = {"node": node, "topic": topic}
        digest = hashlib.sha256(json.dumps(self._of).encode()).hexdigest()[:16]
        self._file = cache_root() / FOLDER / f"{digest}.json"
        self._size = self._read()

    @property
    def size(self) -> Size | None:
        """None where the node never saw an image of that camera, or could not write."""
        return self._size

    def remember(self, size: Size) -> None:
        """Keep a size; where nothing can be written the next start does without it."""
        if size == self._size:
            return
        self._size = size
        content = json.dumps({**self._of, "width": size[0], "height": size[1]})
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file, content.encode())

    def _read(self) -> Size | None:
        # Half of it after a power cut, or somebody else's: then there is none.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(self._file.read_text(encoding="utf-8"))
            size = int(content["width"]), int(content["height"])
            return size if min(size) > 0 else None
        return None
