"""Libraries that report to their makers what they are used for, kept from it: a robot does not."""

from __future__ import annotations

import os
import sys


def switch_off() -> None:
    """Called before the first import of openvino, nncf or onnxruntime.

    OpenVINO and NNCF report through the package openvino_telemetry, which asks nobody, writes an id into the
    home and holds the process up where there is no network. They do without it where it cannot be imported.
    Newer builds of ONNX Runtime read a variable when they are loaded.
    """
    # With None in its place an import fails as if it were not installed; one that is there already stays.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
