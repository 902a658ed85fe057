"""What ships for kinds of processors that `rt_seg tune` was not run on: `config/kernels.yaml`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cache as remembered

from rt_segmentation import cpu
from rt_segmentation.inference.options import EVERY_LAYER, PLAIN, Options
from rt_segmentation.models import ModelManifest
from rt_segmentation.resources import share_dir
from rt_segmentation.settings import SettingsError, read_file

logger = logging.getLogger(__name__)

FILE = "kernels.yaml"
MOST_LOST = 0.005
"""Of the mean IoU, as a fraction: what a precision may cost that nobody asked for."""


@dataclass(frozen=True)
class First:
    """An engine and a precision that are fastest on a kind of processor.

    Attributes:
        processor: what `cpu.kind` calls it.
        networks: that it is for.
        engine, precision: what is fastest.
        measured: what that rests on, in words.
    """

    processor: str
    networks: tuple[str, ...]
    engine: str
    precision: str
    measured: str


@dataclass(frozen=True)
class Choice:
    """How an engine is set on a kind of processor.

    Attributes:
        processor: what `cpu.kind` calls it.
        network, engine, precision: what it is for.
        measured: what the choice rests on, in words.
        kernels: family of kernels for every convolution; '' is OpenVINO's own choice.
        bytes_between, whole: see `Options`.
    """

    processor: str
    network: str
    engine: str
    precision: str
    measured: str
    kernels: str = ""
    bytes_between: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Shipped:
    """All of the file."""

    first: tuple[First, ...] = ()
    choices: tuple[Choice, ...] = ()


@remembered
def contents() -> Shipped:
    """What ships; nothing, with a warning, where the file is damaged.

    Raises:
        ResourceError: the package's data files are not there.
    """
    try:
        return read_file(Shipped, share_dir() / "config" / FILE, "kernels", SettingsError)
    except SettingsError as error:
        logger.warning("%s; engines choose kernels themselves, and precisions go by the default order", error)
        return Shipped()


def fastest(manifest: ModelManifest) -> list[tuple[str, str, str]]:
    """Engines and precisions that are fastest for a model on processors of this kind, and why, in words.

    Only those in which the model's manifest states a score that is at most `MOST_LOST` below the one in fp32.
    """
    found = []
    for one in contents().first:
        lost = _lost(manifest, one.precision)
        if cpu.kind() == one.processor and manifest.network in one.networks and lost <= MOST_LOST:
            points = max(100 * lost, 0)
            why = f"fastest on processors with {one.processor}, for {points:.1f} points of mean IoU"
            found.append((one.engine, one.precision, why))
    return found


def _lost(manifest: ModelManifest, precision: str) -> float:
    """What a precision costs the model, by its manifest, at most; infinity where that does not say."""
    losses = [
        plain.value - score.value
        for score in manifest.scores
        for plain in manifest.scores
        if (score.metric, score.precision) == ("mean_iou", precision)
        and plain == replace(score, precision="fp32", value=plain.value)
    ]
    return max(losses, default=float("inf"))


def options_for(network: str, engine: str, precision: str) -> Options:
    """How an engine is set on processors of this kind; `PLAIN` where nothing was measured."""
    for one in contents().choices:
        asked = network, engine, precision, cpu.kind()
        if (one.network, one.engine, one.precision, one.processor) == asked:
            kernels = ((EVERY_LAYER, one.kernels),) if one.kernels else ()
            return Options(kernels=kernels, bytes_between=one.bytes_between, whole=one.whole)
    return PLAIN
