"""Run the demo: camera, node and viewer as three processes over DDS."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rclpy

from rt_segmentation.data.sources import open_source
from rt_segmentation.data.street_dataset import DEMO_SEED
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.pictures import sheet, write_picture
from rt_segmentation.imaging.render import colorize
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.labels import LabelSet
from rt_segmentation.models import ModelManifest, find_model
from rt_segmentation.ros.demo.viewer import View, Viewer
from rt_segmentation.ros.middleware import start_ros
from rt_segmentation.ros.parameters import Value
from rt_segmentation.ros.processes import Process, ros_environment
from rt_segmentation.ros.signals import ended_by_sigterm

PICTURES = 3
START_TIMEOUT_S = 40.0


class DemoError(RtSegmentationError, RuntimeError):
    """The demo got no masks; the message says what the node said."""


@dataclass(frozen=True)
class DemoOptions:
    """What the demo runs.

    Attributes:
        model: name or manifest.
        seconds: how long the camera publishes [s].
        rate_hz: the camera's.
        images: a folder of images or a video instead of the street.
        out: where pictures and logs go.
    """

    model: str
    seconds: float
    rate_hz: float
    images: Path | None
    out: Path


def run_demo(options: DemoOptions) -> None:
    """Run, print tables, write pictures.

    Raises:
        ModelError: there is no such model.
        DemoError: a process ended early, or no mask came.
    """
    manifest = find_model(options.model)
    labels = manifest.labels()
    options.out.mkdir(parents=True, exist_ok=True)
    environment = ros_environment()
    os.environ.update(environment)
    source = "street" if options.images is None else str(options.images.resolve())
    count = max(1, round(options.seconds * options.rate_hz))
    camera_parameters: dict[str, Value] = {
        "source": source,
        "seed": DEMO_SEED,
        "rate_hz": float(options.rate_hz),
        "count": count,
        "wait_for_subscribers": 2,
    }
    _warm_up(manifest, source)
    model = str(Path(options.model).resolve()) if Path(options.model).is_file() else options.model

    start_ros("rt_seg")
    viewer = Viewer(len(labels.classes), with_truth=options.images is None)
    try:
        with (
            ended_by_sigterm(),
            _node("segmentation_node", {"model": model}, environment, options.out) as node,
            _node("camera_node", camera_parameters, environment, options.out) as camera,
        ):
            pictures = _watch(viewer, node, camera, count, options)
    finally:
        viewer.destroy_node()
        rclpy.try_shutdown()
    if not viewer.masks:
        raise DemoError(
            f"no mask came; the node said: {node.last_words()}; the camera: {camera.last_words()}"
        )
    _print_tables(viewer, labels, count, options)
    written = _write_pictures(pictures, labels, options.out)
    print(f"\npictures: {', '.join(str(path) for path in written)}\nlogs: {node.log}, {camera.log}")


def _warm_up(manifest: ModelManifest, source: str) -> None:
    """Build the engine before the camera starts: a robot's second start finds it in the cache as well."""
    image = next(iter(open_source(source, "", seed=DEMO_SEED, width=0, height=0, rate_hz=1.0))).rgb
    config = Segmenter.build(manifest).config
    frame = Frame.from_rgb(image)
    width, height = config.network_size(frame)
    print(f"building {manifest.name} for {width}x{height} (kept in the cache)", flush=True)
    config.engine.prepare(1, height, width)


def _node(name: str, parameters: dict[str, Value], environment: dict[str, str], out: Path) -> Process:
    return Process(f"rt_segmentation.ros.{name}", parameters, environment, out / f"{name}.log")


def _watch(viewer: Viewer, node: Process, camera: Process, count: int, options: DemoOptions) -> list[View]:
    """Spin the viewer until the camera is done and every frame is accounted for; returns views to picture."""
    pictures: list[View] = []
    deadline = time.monotonic() + START_TIMEOUT_S + options.seconds
    quiet_since: float | None = None
    progress = sys.stderr.isatty()
    while time.monotonic() < deadline:
        rclpy.spin_once(viewer, timeout_sec=0.1)
        if progress:
            print(f"\r{viewer.masks} masks of {count} frames ", end="", file=sys.stderr, flush=True)
        if viewer.shown is not None and viewer.masks >= (len(pictures) + 0.5) / PICTURES * count * 0.8:
            pictures.append(viewer.shown)
            viewer.shown = None
        if node.exit_status is not None:
            raise DemoError(f"the node ended: {node.last_words()}")
        if camera.exit_status not in (None, 0):
            raise DemoError(f"the camera ended: {camera.last_words()}")
        if camera.exit_status == 0:
            # One more diagnostic message after the last mask has the final counts.
            quiet_since = quiet_since or time.monotonic()
            if time.monotonic() - quiet_since > 2.5:
                break
    if progress:
        print(file=sys.stderr)
    if viewer.shown is not None and len(pictures) < PICTURES:
        pictures.append(viewer.shown)
    return pictures[:PICTURES]


def _print_tables(viewer: Viewer, labels: LabelSet, count: int, options: DemoOptions) -> None:
    values = viewer.diagnostics
    span = max(viewer.last_mask_s - viewer.first_mask_s, 1e-3)
    rate = (viewer.masks - 1) / span if viewer.masks > 1 else 0.0
    latencies = np.percentile(viewer.latencies_ms, (50, 95, 100))
    dropped, lost = (
        int(values.get("frames dropped", 0)),
        int(values.get("messages lost by the middleware", 0)),
    )
    print(
        f"\nmodel {values.get('model', options.model)}, engine {values.get('engine', '?')},"
        f" {values.get('precision', '?')}"
    )
    print(f"camera    {options.rate_hz:6.1f} Hz   {count} frames published")
    print(
        f"masks     {rate:6.1f} Hz   {viewer.masks} received, {dropped} frames dropped, {lost} messages lost"
    )
    print(f"\n{'':22}{'p50':>9}{'p95':>9}{'max':>9}  ms")
    print(f"{'camera to mask':22}" + "".join(f"{v:9.1f}" for v in latencies))
    for stage in ("waiting", "decoding", "preprocessing", "inference", "postprocessing", "publishing"):
        if f"{stage} p50 [ms]" in values:
            cells = "".join(f"{float(values[f'{stage} {k} [ms]']):9.1f}" for k in ("p50", "p95", "max"))
            print(f"  {stage:20}{cells}")
    if viewer.confusion.counts.any():
        print(f"\n{'class':14}IoU against the street's truth")
        for name, iou in zip(labels.names, viewer.confusion.class_iou()):
            bar = "" if np.isnan(iou) else "█" * round(iou * 30)
            print(f"{name:14}{iou:5.2f} {bar}")
        print(f"{'mean IoU':14}{viewer.confusion.mean_iou():5.2f}")


def _write_pictures(views: list[View], labels: LabelSet, out: Path) -> list[Path]:
    written = []
    rows = []
    for index, view in enumerate(views):
        assert view.camera is not None and view.color is not None and view.overlay is not None
        path = out / f"overlay_{index}.png"
        write_picture(path, view.overlay)
        written.append(path)
        row = [("camera", view.camera), ("labels (over DDS)", view.color), ("overlay", view.overlay)]
        if view.truth is not None:
            row.insert(1, ("truth", colorize(view.truth, labels.palette())))
        rows.append(row)
    if rows:
        path = out / "demo.jpg"
        write_picture(path, sheet(rows, labels))
        written.append(path)
    return written
