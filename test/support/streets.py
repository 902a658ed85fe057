"""Streets that are laid out once: that takes longer than to look at one."""

from __future__ import annotations

from functools import lru_cache

from rt_segmentation.data.synthetic import StreetScene


@lru_cache(maxsize=8)
def street_scene(seed: int, width: int, height: int) -> StreetScene:
    """The street of a seed; what it shows depends on the time alone."""
    return StreetScene(seed, width, height)
