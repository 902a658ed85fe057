"""`rt_seg export` and `rt_seg cache`: engines built before they are needed, and what is kept of them."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from rt_segmentation.inference import cache
from rt_segmentation.inference.engines import build_engine
from rt_segmentation.models import find_model


def export(arguments: argparse.Namespace) -> None:
    """Build a model's engine for one size into the cache, and write the graph as ONNX if a folder is named.

    Raises:
        EngineError, ModelError: it cannot be built; the message says why.
    """
    from rt_segmentation.inference.engines.export import WITH_CONFIDENCE, graph_entry

    manifest = find_model(arguments.model)
    width, height = arguments.width or manifest.width, arguments.height or manifest.height
    engine = build_engine(manifest, arguments.engine, arguments.precision)
    engine.prepare(arguments.batch, height, width)
    print(
        f"{manifest.name} {width}x{height}, batch {arguments.batch}:"
        f" engine {engine.name} in {engine.precision} on {engine.device}"
    )
    if arguments.out is not None:
        entry = graph_entry(manifest, arguments.batch, height, width)
        arguments.out.mkdir(parents=True, exist_ok=True)
        # The graph names its weights by their file's name: both keep theirs.
        for path in sorted(entry.folder.glob("*.onnx")) + sorted(entry.folder.glob("*.bin")):
            shutil.copyfile(path, arguments.out / path.name)
        print(f"{arguments.out / WITH_CONFIDENCE}: uint8 images (N, H, W, 3) RGB to labels and confidence")


def run_cache(arguments: argparse.Namespace) -> None:
    """List what the cache holds, or delete it."""
    root = cache.cache_root()
    if arguments.action == "clear":
        print(f"{root}: {cache.clear() / 1e6:.1f} MB deleted")
        return
    rows = [describe(entry) for entry in cache.entries()]
    if arguments.json:
        print(json.dumps({"path": str(root), "entries": rows}, indent=2))
        return
    if not rows:
        print(f"{root}: empty; engines are built at the first frames, or by `rt_seg export`")
    for row in rows:
        verdict = "" if row["agreement"] is None else f", {row['agreement']:.2%} of torch's labels"
        what = row["kind"] if row["precision"] is None else f"{row['kind']} {row['precision']}"
        size = f"{row['width']}x{row['height']}, batch {row['batch']}"
        print(f"{row['model']:<20} {size:<20} {what:<18} {row['size_bytes'] / 1e6:8.1f} MB{verdict}")


def describe(entry: cache.CacheEntry) -> dict[str, Any]:
    """An entry as JSON's types; the keys are always the same."""
    identity = entry.key["identity"]
    return {
        "folder": str(Path(entry.folder)),
        "kind": entry.key["kind"],
        **{name: identity.get(name) for name in ("model", "width", "height", "batch", "precision", "device")},
        "agreement": entry.data.get("agreement"),
        "size_bytes": entry.size_bytes,
        "made_with": dict(entry.key["made_with"]),
    }
