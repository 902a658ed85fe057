"""The parameters of the node that say when images and masks are bad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from rt_segmentation.ros.parameters import Parameter
from rt_segmentation.runtime.input_health import InputLimits

DRIFT_LIMIT = "drift.limit"
_USUAL = InputLimits()


def input_limits(parameter: Callable[[str], Any]) -> InputLimits:
    """The limits as they are set.

    Args:
        parameter: gives a parameter's current value by name.
    """
    return InputLimits(*(parameter(f"input.{field.name}") for field in fields(InputLimits)))


HEALTH = (
    Parameter(
        "input.frozen_s",
        _USUAL.frozen_s,
        "Warn when the camera sends the same picture, under new stamps, for this time; 0 never warns.",
        unit="s",
        minimum=0.0,
    ),
    Parameter(
        "input.black_share",
        _USUAL.black_share,
        "Warn when at least this share of the pixels is black, for two seconds; 1 never warns.",
        minimum=0.0,
        maximum=1.0,
    ),
    Parameter(
        "input.white_share",
        _USUAL.white_share,
        "Warn when at least this share of the pixels is white, for two seconds; 1 never warns.",
        minimum=0.0,
        maximum=1.0,
    ),
    Parameter(
        "input.sharpness_share",
        _USUAL.sharpness_share,
        "Warn when the images have less than this share of their usual sharpness, for two seconds; 0 never"
        " warns.",
        minimum=0.0,
        maximum=1.0,
    ),
    Parameter(
        "input.rate_share",
        _USUAL.rate_share,
        "Warn when images come at less than this share of their usual rate, for two seconds; 0 never warns.",
        minimum=0.0,
        maximum=1.0,
    ),
    Parameter(
        DRIFT_LIMIT,
        6.0,
        "Warn when the masks of the last ten seconds are farther than this from what the model gives on its"
        " validation frames: a class's share, or the confidence, by so many standard deviations; 0 never"
        " warns.",
        minimum=0.0,
    ),
)
