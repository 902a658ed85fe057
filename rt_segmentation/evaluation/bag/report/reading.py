"""Reading evaluation.json back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rt_segmentation.evaluation.bag.report.errors import ReportError
from rt_segmentation.evaluation.bag.result import FORMAT

PARTS: dict[str, type | tuple[type, ...]] = {
    "partial": bool,
    "problems": list,
    "mode": str,
    "rate": (int, float),
    "command": str,
    "date": str,
    "machine": dict,
    "versions": dict,
    "bags": list,
    "classes": list,
    "models": list,
    "comparisons": list,
}
KEYS = {
    "bags": "path duration_s frames frames_span_s image_topic label_topic lost problem",
    "classes": "name color",
    "models": "name network engine precision device input_size received segmented dropped drop_rate fps"
    " engine_fps latency_ms inference_ms latency_histogram accuracy class_shares mean_confidence"
    " temporal_consistency timeline shown",
    "comparisons": "a b difference interval significant method",
}
"""What each entry of a list must have."""


def read_result(path: Path) -> dict[str, Any]:
    """The result in a file that `rt_seg evaluate-bag` wrote.

    Raises:
        ReportError: the file is not such a result.
        OSError: it cannot be read.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path} is not JSON: {error}") from error
    found = result.get("format") if isinstance(result, dict) else None
    if found != FORMAT:
        raise ReportError(
            f"{path} is not the result of a bag evaluation: its format is {found!r}, not '{FORMAT}'"
        )
    wrong = [name for name, kind in PARTS.items() if not isinstance(result.get(name), kind)]
    for part, keys in KEYS.items():
        wrong += [
            f"{part}: {key}" for entry in result.get(part) or [] for key in keys.split() if key not in entry
        ]
    if wrong:
        raise ReportError(f"{path} has no proper '{wrong[0]}'; rt_seg evaluate-bag writes one")
    return dict(result)
