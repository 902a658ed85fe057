"""The segmentation node's parameters: the one table that node, config/seg.yaml and documentation share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rt_segmentation.imaging.frame import Region
from rt_segmentation.imaging.levels import AUTO, IMAGE_BITS
from rt_segmentation.imaging.placement import INPUT, check_resolution, check_roi, check_rotation
from rt_segmentation.inference.engines import ENGINES
from rt_segmentation.inference.parity import MAX_FRAMES, Gate
from rt_segmentation.ros.parameters import Parameter

WHOLE = [0, 0, 0, 0]
"""The region of interest that is all of an image, as in sensor_msgs/RegionOfInterest."""


def geometry(parameter: Callable[[str], Any]) -> dict[str, Any]:
    """What of a `SegmenterConfig` says where masks lie.

    Args:
        parameter: gives a parameter's current value by name.
    """
    roi = parameter("roi")
    return {
        "output_resolution": parameter("output_resolution"),
        "roi": Region(*roi) if any(roi) else None,
        "rotation": parameter("rotation"),
        "letterbox": parameter("letterbox"),
    }


def _input_side(value: int) -> str | None:
    return "it must be 0 for automatic, or 32 or more" if 0 < value < 32 else None


def _roi(value: Sequence[int]) -> str | None:
    return check_roi(value) if any(value) or len(value) != len(WHOLE) else None


def _watchdog(value: float) -> str | None:
    return "it must be 0 for never, or 5 or more" if 0 < value < 5 else None


PARAMETERS = (
    Parameter(
        "model",
        "lednet",
        "Model to run: a name that `rt_seg models list` shows, or the path of a manifest (.yaml).",
        read_only=True,
    ),
    Parameter(
        "engine",
        "auto",
        "What executes the model; auto takes the fastest that `rt_seg tune` measured here, or else the first"
        " that works and passes the parity gate.",
        choices=("auto", *ENGINES),
        read_only=True,
    ),
    Parameter(
        "precision",
        "auto",
        "Arithmetic of the engine; auto takes the fastest measured, or else the engine's own choice.",
        choices=("auto", "fp32", "fp16", "bf16", "int8"),
        read_only=True,
    ),
    Parameter(
        "parallel_frames",
        1,
        "Frames that the engine works at at once. 1 gives each mask soonest; one for each core of a busy CPU"
        " gives the most masks a second, each of them later (engines openvino and onnxruntime).",
        minimum=1,
        maximum=64,
        read_only=True,
    ),
    Parameter(
        "input_width",
        0,
        "Width at which the network sees an image; 0 keeps the camera's aspect ratio at input_height.",
        unit="px",
        minimum=0,
        maximum=7680,
        read_only=True,
        check=_input_side,
    ),
    Parameter(
        "input_height",
        0,
        "Height at which the network sees an image; 0 is the model's own.",
        unit="px",
        minimum=0,
        maximum=7680,
        read_only=True,
        check=_input_side,
    ),
    *(
        Parameter(
            f"parity.{name}",
            float(getattr(Gate, name)),
            f"Smallest share of pixels to which an engine in {precision} gives the label that PyTorch in fp32"
            " gives them. Below it the next engine is taken where `engine` or `precision` is auto, else every"
            " frame is dropped; diagnostics warn.",
            minimum=0.0,
            maximum=1.0,
            read_only=True,
        )
        for name, precision in (("fp32", "fp32"), ("half", "fp16 or bf16"), ("int8", "int8"))
    ),
    Parameter(
        "parity.frames",
        "",
        "Folder of images of your own on which an engine's labels are compared as well, beside two street"
        f" frames; {MAX_FRAMES} of them are taken. Empty for none.",
        read_only=True,
    ),
    Parameter(
        "autostart",
        True,
        "Whether the node configures and activates itself; false leaves that to a lifecycle manager.",
        read_only=True,
    ),
    Parameter(
        "watchdog_s",
        30.0,
        "The process is ended when it shows no sign of life for so long, and stderr tells where its threads"
        " stand; the launch file's respawn starts it again. Building an engine may take longer. 0 never ends"
        " it.",
        unit="s",
        minimum=0.0,
        read_only=True,
        check=_watchdog,
    ),
    Parameter(
        "output_resolution",
        INPUT,
        "Size of the masks: input is the camera's; network is the network's, and shows no more than roi; a"
        " size as 320x240 is that of the camera's image, resized.",
        check=lambda value: check_resolution(value) or None,
    ),
    Parameter(
        "roi",
        WHOLE,
        "The part of the camera's image that the network sees: x, y, width and height; labels are 255 outside"
        " it. An empty list, or four zeros, is the whole image. An image that does not hold it is dropped.",
        unit="px",
        check=_roi,
        empty=WHOLE,
    ),
    Parameter(
        "rotation",
        0,
        "How far the camera's image is turned clockwise to be upright for the network: 0, 90, 180 or 270."
        " Masks lie as the camera's image does.",
        unit="deg",
        check=lambda value: check_rotation(value) or None,
    ),
    Parameter(
        "letterbox",
        False,
        "Whether an image keeps its aspect ratio, with padding, where input_width is given.",
    ),
    Parameter(
        "image_transport",
        "raw",
        "Subscribe to Image on image, or to CompressedImage on image/compressed.",
        choices=("raw", "compressed"),
    ),
    Parameter(
        "image_bits",
        AUTO,
        "Bits that 16-bit images (mono16, 16UC1, rgb16, bayer_*16, PNG of 16 bits) use; the upper eight of"
        " these are taken. auto guesses from the images, and warns.",
        choices=IMAGE_BITS,
    ),
    Parameter(
        "overlay_opacity",
        0.5,
        "Share of the class colours in the overlay: 0 shows the camera's image, 1 the colours.",
        minimum=0.0,
        maximum=1.0,
    ),
    Parameter(
        "jpeg_quality", 90, "Quality of the compressed colour and overlay images.", minimum=1, maximum=100
    ),
    Parameter(
        "diagnostics.max_latency_ms",
        500.0,
        "Diagnostics warn when the 95th percentile of stamp to publish is above this; 0 never warns.",
        unit="ms",
        minimum=0.0,
    ),
    Parameter(
        "diagnostics.min_output_hz",
        0.0,
        "Diagnostics warn when fewer masks a second are published while images come; 0 never warns.",
        unit="Hz",
        minimum=0.0,
    ),
    Parameter(
        "diagnostics.max_drop_ratio",
        1.0,
        "Diagnostics warn when a larger share of the images of the last second is dropped; 1 never warns.",
        minimum=0.0,
        maximum=1.0,
    ),
    Parameter(
        "diagnostics.stale_after_s",
        2.0,
        "Diagnostics warn when somebody listens and no image has come for so long.",
        unit="s",
        minimum=0.1,
    ),
)
