"""No library reports to its makers: seen in fresh processes with a home of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "rt_segmentation"
REPORT = """
import sys, threading
from pathlib import Path
loaded = sorted(name for name, module in sys.modules.items() if "telemetry" in name and module is not None)
children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
print("backend", any(name.startswith("openvino_telemetry") for name in loaded))
print("threads", threading.active_count(), "children", len(children))
"""


@pytest.mark.parametrize(
    ("package", "statement"),
    [
        ("openvino", "import rt_segmentation.inference.engines.openvino_engine"),
        ("nncf", "import rt_segmentation.inference, nncf"),
    ],
)
def test_a_library_writes_nothing_and_starts_nothing(package: str, statement: str, tmp_path: Path) -> None:
    for name in (package, "openvino-telemetry"):
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed: nothing to keep off")
    environment = {
        # It keeps quiet by itself where a variable says that nobody is there.
        **{name: value for name, value in os.environ.items() if not re.search(r"\bCI\b|BUILD", name)},
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(PACKAGE.parent),
    }
    done = subprocess.run(
        [sys.executable, "-c", statement + REPORT],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["backend False", "threads 1 children 0"]
    assert not (tmp_path / "intel").exists()


def test_every_import_of_such_a_library_comes_after_it_is_switched_off() -> None:
    importing = [
        path
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^ *(import|from) (openvino|nncf|onnxruntime)\b", path.read_text(), re.MULTILINE)
    ]
    assert importing
    for path in importing:
        within = path.is_relative_to(PACKAGE / "inference")
        assert within or "from rt_segmentation.inference" in path.read_text(), path
