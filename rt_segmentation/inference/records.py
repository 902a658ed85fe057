"""What `rt_seg tune` keeps in the cache: read where it was measured, and said why not elsewhere."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache as once
from typing import Any, TypeVar

from rt_segmentation.inference import cache
from rt_segmentation.inference.cache import CacheKey
from rt_segmentation.settings import read_settings

logger = logging.getLogger(__name__)

Content = TypeVar("Content")

MOST_AT_ONCE = 64
"""As the parameter `parallel_frames` has it: a record with more was not measured, it is damaged."""

_OF_THE_MACHINE = ("device", "arithmetic")
"""Parts of a record's identity that are another machine's where they differ."""


def find_record(
    key: CacheKey, read: Callable[[Mapping[str, Any]], Content], tell: bool = True
) -> Content | None:
    """A record that can be used here.

    Args:
        key: of the record; its identity has the model's name, 'height', 'width' and 'device'.
        read: makes the record of what was kept; what it raises of KeyError, TypeError and ValueError is a
            damaged record.
        tell: whether to warn, once a process, of a record that is there and is not used: of other versions,
            another machine, or damaged.

    Returns:
        What `read` made; None where there is no such record.
    """
    entry, problem = cache.look(key)
    if entry is not None:
        try:
            return read(entry.data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            problem = f"damaged ({error!r})"
    if entry is None and not problem and tell:
        problem = _of_another_machine(key)
    if problem and tell:
        _say_once(str(key.identity["model"]), f"{key.identity['width']}x{key.identity['height']}", problem)
    return None


def read_record(kind: type[Content], data: Mapping[str, Any], required: Collection[str]) -> Content:
    """What was kept as a dataclass, whose defaults are for one that is made, and not for what is missing.

    Raises:
        KeyError: one of the required keys is missing.
        SettingsError: a key is unknown, or a value of another type.
    """
    if missing := set(required) - set(data):
        raise KeyError(min(missing))
    return read_settings(kind, dict(data))


def check_numbers(measured: Iterable[float], at_once: Iterable[int]) -> None:
    """Make sure that a record's numbers can be those of a measurement: types alone do not tell.

    Args:
        measured: times and rates.
        at_once: numbers of concurrent frames, and of frames in a batch.

    Raises:
        ValueError: one cannot.
    """
    if not all(math.isfinite(number) and number >= 0 for number in measured):
        raise ValueError("a time or a rate is none")
    if not all(1 <= number <= MOST_AT_ONCE for number in at_once):
        raise ValueError(f"frames at once are not from 1 to {MOST_AT_ONCE}")


def _of_another_machine(key: CacheKey) -> str:
    """Whose record there is, where there is none of this machine."""
    wanted = _without_machine(key.identity)
    for identity in cache.identities(key.kind, str(key.identity["model"])):
        if _without_machine(identity) != wanted:
            continue
        if identity.get("device") != key.identity["device"]:
            return f"of {identity.get('device')}, and this is {key.identity['device']}"
        return "of a processor of the same name with other arithmetic"
    return ""


def _without_machine(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name not in _OF_THE_MACHINE}


@once
def _say_once(model: str, size: str, problem: str) -> None:
    logger.warning(
        "what `rt_seg tune` measured of model '%s' at %s is not used, it is %s;"
        " `rt_seg tune` measures it again",
        model,
        size,
        problem,
    )
