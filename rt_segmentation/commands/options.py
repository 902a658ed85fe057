"""What several commands read and write: options of data sets, and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import yaml

from rt_segmentation.data.dataset import DatasetError


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """Options of a data set, given as NAME=VALUE with a value in YAML.

    Raises:
        DatasetError: one is not of that form.
    """
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not name or not equals:
            raise DatasetError(f"option '{text}' should be NAME=VALUE, as label_set=cityscapes34")
    return options


def to_json(content: dict[str, Any]) -> bytes:
    """JSON text; null for NaN, which JSON does not have."""
    return (json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n").encode()


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
