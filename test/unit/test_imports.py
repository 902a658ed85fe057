"""The rooms of the package stand on floors: imports point down, and nowhere in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = "rt_segmentation"
ROOT = Path(__file__).resolve().parents[2] / PACKAGE

# A room may import from the floors below its own, and from itself.
FLOORS = (
    ("errors", "cpu", "profiles", "telemetry", "text"),
    ("files", "provenance", "resources", "safetensors_reader", "settings"),
    ("labels", "networks", "runtime"),
    ("groups", "imaging", "models"),
    ("data", "weights"),
    ("inference",),
    ("api", "bags"),
    ("evaluation",),
    ("ros", "sampling", "training"),
    ("benchmark",),
    ("commands",),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> dict[str, Path]:
    """Every module by its name without the package's; the package itself is ''."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports() -> dict[str, set[str]]:
    """What each module imports of the package, wherever in it the line stands."""
    known = modules()
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        targets: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level and node.module, f"{path}:{node.lineno} is a relative import"
                targets.update(f"{node.module}.{alias.name}" for alias in node.names)
        found[name] = set()
        for target in targets:
            head, _, rest = target.partition(".")
            if head != PACKAGE:
                continue
            # A name in a module stands for the module.
            found[name].add(rest if rest in known else rest.rpartition(".")[0])
    return found


def test_every_room_has_a_floor() -> None:
    assert {name.partition(".")[0] for name in modules() if name} == set(FLOOR)


def test_imports_point_down() -> None:
    wrong = [
        f"{source} imports {target}"
        for source, targets in imports().items()
        for target in targets
        # The package itself is the front door: it imports what it offers when somebody asks for it.
        if source and target
        for room, other in [(source.partition(".")[0], target.partition(".")[0])]
        if room != other and FLOOR[room] <= FLOOR[other]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_circle() -> None:
    found = {name: {target for target in targets if target} for name, targets in imports().items() if name}

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = found[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    reached = {name: reach(name) for name in found}
    circles = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in found
        if name in reached[name]
    }
    assert not circles


def test_help_needs_no_heavy_library() -> None:
    code = """
import sys
from rt_segmentation.cli import COMMANDS, main

for command in ("", *COMMANDS, "benchmark engines", "benchmark node", "benchmark startup"):
    try:
        main([*command.split(), "--help"])
    except SystemExit as end:
        assert end.code == 0
    found = {"cv2", "numpy", "onnxruntime", "openvino", "rclpy", "rosbags", "torch"} & set(sys.modules)
    assert not found, f"rt_seg {command} --help imports {found}"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for usage in ("rt_seg [-h]", "rt_seg segment [-h]", "rt_seg benchmark node [-h]"):
        assert f"usage: {usage}" in done.stdout
