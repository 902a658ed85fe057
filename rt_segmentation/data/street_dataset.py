"""The synthetic street as a data set."""

from __future__ import annotations

import math
from functools import lru_cache

from rt_segmentation.data.dataset import DatasetError, Sample
from rt_segmentation.data.synthetic import SMALLEST, StreetScene
from rt_segmentation.imaging.codec import MAX_SIDE_PX
from rt_segmentation.labels import load_label_set

TRAINING_SEED = 1000
"""Training takes seeds from here up; demos and tests take smaller ones, which no shipped model has seen."""

DEMO_SEED = 7
"""The demo's street."""

FRAME_INTERVAL_S = 1.7

# To lay a street out takes longer than to look at it.
_scene = lru_cache(maxsize=2)(StreetScene)


class Street:
    """Frames of generated streets, rendered when asked for.

    Args:
        scenes: how many streets, with seeds from `first_seed` on.
        frames_per_scene: frames of each, `FRAME_INTERVAL_S` apart.
        first_seed: seed of the first street.
        width, height: size of the frames [px].

    Raises:
        DatasetError: a number is none, or is out of range.
    """

    def __init__(
        self, scenes: int, frames_per_scene: int, first_seed: int, width: int = 480, height: int = 360
    ) -> None:
        for name, value, least, most in (
            ("scenes", scenes, 1, math.inf),
            ("frames_per_scene", frames_per_scene, 1, math.inf),
            ("first_seed", first_seed, 0, math.inf),
            ("width", width, SMALLEST[0], MAX_SIDE_PX),
            ("height", height, SMALLEST[1], MAX_SIDE_PX),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                limit = f"{least} or more" if most == math.inf else f"{least} to {most}"
                raise DatasetError(f"the street's {name} is {value!r}, it must be an integer, {limit}")
        self.label_set = load_label_set("camvid11")
        self.ignored_ids: frozenset[int] = frozenset()
        self._length = scenes * frames_per_scene
        self._frames_per_scene = frames_per_scene
        self._first_seed = first_seed
        self._width, self._height = width, height

    def __len__(self) -> int:
        return self._length

    def names(self) -> list[str]:
        """Of all frames; none is rendered for it."""
        return [self._name(*divmod(index, self._frames_per_scene)) for index in range(self._length)]

    def _name(self, scene: int, frame: int) -> str:
        return f"street{self._first_seed + scene}_{frame:03d}"

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(f"street frame {index} of {self._length}")
        scene, frame = divmod(index, self._frames_per_scene)
        street = _scene(self._first_seed + scene, self._width, self._height)
        image, labels = street.render(frame * FRAME_INTERVAL_S)
        return Sample(image, labels, self._name(scene, frame))
