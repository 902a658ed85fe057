"""Many images, one model: what an engine refuses once, it is not asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from rt_segmentation.api import Segmenter
    from rt_segmentation.inference.segmenter import Segmentation


class OncePerSize:
    """Segments as its segmenter does; a size at which the engine has failed is refused at once.

    To build an engine takes seconds, and a folder may have thousands of images of that size.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._refused: dict[tuple[int, ...], str] = {}

    def __call__(self, rgb: np.ndarray, confidence: bool) -> Segmentation:
        """See `Segmenter`.

        Raises:
            EngineError: the engine fails at this size, or has.
            ImageError: the image cannot be segmented.
        """
        from rt_segmentation.inference.engines import EngineError

        if rgb.shape in self._refused:
            raise EngineError(self._refused[rgb.shape])
        try:
            return self._segmenter(rgb, confidence)
        except EngineError as error:
            self._refused[rgb.shape] = str(error)
            raise
