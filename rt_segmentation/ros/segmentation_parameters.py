"""The segmentation node's parameters: the one table that node, config/seg.yaml and documentation share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rt_segmentation.imaging.frame import Region
from rt_segmentation.imaging.levels import AUTO, IMAGE_BITS
from rt_segmentation.imaging.placement import INPUT, check_resolution, check_roi, check_rotation
from rt_segmentation.inference.engines import ENGINES
from rt_segmentation.inference.parity import MAX_FRAMES, Gate
from rt_segmentation.ros.health_parameters import HEALTH
from rt_segmentation.ros.parameters import Parameter
from rt_segmentation.ros.spelling import is_name_slip, shortened

WHOLE = [0, 0, 0, 0]
"""The region of interest that is all of an image, as in sensor_msgs/RegionOfInterest."""


def own_name(camera: str, name: str) -> str:
    """The name of a parameter that each of several cameras has of its own, as 'front.rotation'."""
    return f"{camera}.{name}" if camera else name


def of_another_camera(cameras: Sequence[str], name: str) -> bool:
    """Whether a parameter is that of a camera which the node has not, and not one of its own, misspelt.

    A robot's params file may have the cameras of several nodes, or one that is switched off.
    """
    camera, _, rest = name.partition(".")
    return rest in {parameter.name for parameter in PER_CAMERA} and not any(
        is_name_slip(camera, own) for own in cameras
    )


def camera_parameters(cameras: Sequence[str], general: Callable[[Parameter], Any]) -> list[Parameter]:
    """The parameters that each of several cameras has of its own; by default as the general one says.

    Args:
        cameras: their names; none for the empty name, which is that of the only camera.
        general: gives the value that a parameter has at the start.
    """
    return [
        replace(parameter, name=own_name(camera, parameter.name), default=general(parameter))
        for camera in cameras
        if camera
        for parameter in PER_CAMERA
    ]


def geometry(parameter: Callable[[str], Any], camera: str = "") -> dict[str, Any]:
    """What of a `SegmenterConfig` says where masks lie.

    Args:
        parameter: gives a parameter's current value by name.
        camera: whose images it is for, where there are several.
    """
    roi = parameter(own_name(camera, "roi"))
    return {
        "output_resolution": parameter(own_name(camera, "output_resolution")),
        "roi": Region(*roi) if any(roi) else None,
        "rotation": parameter(own_name(camera, "rotation")),
        "letterbox": parameter(own_name(camera, "letterbox")),
    }


def _input_side(value: int) -> str | None:
    return "it must be 0 for automatic, or 32 or more" if 0 < value < 32 else None


def _roi(value: Sequence[int]) -> str | None:
    return check_roi(value) if any(value) or len(value) != len(WHOLE) else None


def check_cameras(names: Sequence[str]) -> str | None:
    """Say what is wrong with the cameras' names; None if nothing is."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
            return (
                f"'{shortened(name)}' is no name: it must begin with a letter, and have letters, digits and _"
                " alone"
            )
    return None if len(set(names)) == len(names) else "each camera must have a name of its own"


def _engine_timeout(value: float) -> str | None:
    return "it must be 0 for never, or 1 or more" if 0 < value < 1 else None


def _watchdog(value: float) -> str | None:
    return "it must be 0 for never, or 5 or more" if 0 < value < 5 else None


PARAMETERS = (
    Parameter(
        "model",
        "lednet",
        "Model to run: a name that `rt_seg models list` shows, or the path of a manifest (.yaml).",
    ),
    Parameter(
        "groups",
        "",
        "Groups of classes that the labels become: categories, driving, or the path of a YAML file; empty for"
        " the model's classes.",
    ),
    Parameter(
        "engine",
        "auto",
        "Engine that executes the model; auto takes the fastest that `rt_seg tune` measured on this machine,"
        " or else the first that works and passes the parity gate.",
        choices=("auto", *ENGINES),
    ),
    Parameter(
        "precision",
        "auto",
        "Precision of the engine's arithmetic; auto takes the fastest measured, or the engine's default.",
        choices=("auto", "fp32", "fp16", "bf16", "int8"),
    ),
    Parameter(
        "parallel_frames",
        0,
        "Frames processed concurrently. 0 decides by what `rt_seg tune` measured here, or else by a"
        " short measurement at the first start: more than 1 where that gives 1.2 times the masks per second,"
        " or 1.05 times with several cameras. 1 gives the lowest latency; one per core of a busy CPU the most"
        " masks per second, each of them later (engines openvino and onnxruntime).",
        minimum=0,
        maximum=64,
    ),
    Parameter(
        "input_width",
        0,
        "Width of the network's input; 0 keeps the camera's aspect ratio at input_height.",
        unit="px",
        minimum=0,
        maximum=7680,
        check=_input_side,
    ),
    Parameter(
        "input_height",
        0,
        "Height of the network's input; 0 takes the model's.",
        unit="px",
        minimum=0,
        maximum=7680,
        check=_input_side,
    ),
    *(
        Parameter(
            f"parity.{name}",
            float(getattr(Gate, name)),
            f"Smallest share of pixels for which an engine in {precision} must give the same label as PyTorch"
            " in fp32. Below it the engine is refused and the next candidate is tried if `engine` or"
            " `precision` is auto; otherwise every frame is dropped. Diagnostics warn.",
            minimum=0.0,
            maximum=1.0,
            read_only=True,
        )
        for name, precision in (("fp32", "fp32"), ("half", "fp16 or bf16"), ("int8", "int8"))
    ),
    Parameter(
        "parity.frames",
        "",
        "Folder of your own images on which the labels of an engine are compared, in addition to two street"
        f" frames; at most {MAX_FRAMES} of them are used. Empty: none.",
        read_only=True,
    ),
    Parameter(
        "autostart",
        True,
        "Configure and activate the node at the start; false leaves that to a lifecycle manager.",
        read_only=True,
    ),
    Parameter(
        "cameras",
        [""],
        "Names of several cameras that one network segments in turn: each has its images on NAME/image and"
        " its masks on ~/NAME/label and its siblings, and its own NAME.max_rate_hz, NAME.output_resolution,"
        " NAME.roi, NAME.rotation, NAME.letterbox, NAME.image_transport and NAME.image_bits, which are by"
        " default what the parameters without NAME are. Empty: one camera, on image and ~/label.",
        read_only=True,
        check=check_cameras,
    ),
    Parameter(
        "enabled",
        True,
        "Segment the camera's images; false leaves the camera alone and computes nothing, and the model stays"
        " in memory. The service ~/enable sets it.",
    ),
    Parameter(
        "max_rate_hz",
        0.0,
        "Images per second that are segmented at most; those above are dropped and counted as throttled."
        " 0 is no limit.",
        unit="Hz",
        minimum=0.0,
    ),
    Parameter(
        "bond",
        False,
        "Keep a bond with Nav2's lifecycle manager while active, as Nav2's own nodes do; needs bondpy."
        " Without a bond the manager's bond_timeout must be 0.",
        read_only=True,
    ),
    Parameter(
        "watchdog_s",
        30.0,
        "End the process when it has shown no sign of life for this time, after writing the stacks of its"
        " threads to stderr; the launch file's respawn starts it again. Building an engine may take longer."
        " 0 switches the watchdog off.",
        unit="s",
        minimum=0.0,
        read_only=True,
        check=_watchdog,
    ),
    Parameter(
        "engine_timeout_s",
        30.0,
        "Take an engine that works at one frame for this time for one that hangs: its frames are dropped and"
        " counted as hung, and another one is built in its place, while the node answers. Time in which an"
        " engine is built does not count. 0 waits for ever.",
        unit="s",
        minimum=0.0,
        check=_engine_timeout,
    ),
    Parameter(
        "output_resolution",
        INPUT,
        "Size of the masks: input is the size of the camera's images; network that of the network's input,"
        " and shows only roi; a size such as 320x240 is that of the camera's image, resized.",
        check=lambda value: check_resolution(value) or None,
    ),
    Parameter(
        "roi",
        WHOLE,
        "Region of the camera's image that the network sees: x, y, width and height; labels are 255 outside"
        " it. An empty list, or four zeros, is the whole image. An image that does not hold it is dropped.",
        unit="px",
        check=_roi,
        empty=WHOLE,
    ),
    Parameter(
        "rotation",
        0,
        "Clockwise rotation that makes the camera's image upright for the network: 0, 90, 180 or 270. Masks"
        " lie as the camera's image does.",
        unit="deg",
        check=lambda value: check_rotation(value) or None,
    ),
    Parameter(
        "letterbox",
        False,
        "Keep the image's aspect ratio, with padding, if input_width is given.",
    ),
    Parameter(
        "image_transport",
        "raw",
        "Subscribe to Image on image (raw), or to CompressedImage on image/compressed (compressed).",
        choices=("raw", "compressed"),
    ),
    Parameter(
        "image_bits",
        AUTO,
        "Number of bits that 16-bit images (mono16, 16UC1, rgb16, bayer_*16, 16-bit PNG) use; the upper eight"
        " of these are used. auto guesses the number from the images, and warns.",
        choices=IMAGE_BITS,
    ),
    Parameter(
        "overlay_opacity",
        0.5,
        "Opacity of the class colours in the overlay: 0 shows the camera's image, 1 the colours.",
        minimum=0.0,
        maximum=1.0,
    ),
    Parameter(
        "jpeg_quality", 90, "Quality of the compressed colour and overlay images.", minimum=1, maximum=100
    ),
    Parameter(
        "diagnostics.max_latency_ms",
        500.0,
        "Warn when the 95th percentile of the latency, from stamp to publication, is above; 0 never warns.",
        unit="ms",
        minimum=0.0,
    ),
    Parameter(
        "diagnostics.min_output_hz",
        0.0,
        "Warn when fewer masks per second are published while images arrive; 0 never warns.",
        unit="Hz",
        minimum=0.0,
    ),
    Parameter(
        "diagnostics.max_drop_ratio",
        1.0,
        "Warn when a larger share of the images of the last second is dropped; 1 never warns.",
        minimum=0.0,
        maximum=1.0,
    ),
    Parameter(
        "diagnostics.stale_after_s",
        2.0,
        "Warn when an output has a subscriber and no image has arrived for this time.",
        unit="s",
        minimum=0.1,
    ),
    *HEALTH,
)

_TABLE = {parameter.name: parameter for parameter in PARAMETERS}
CAMERAS = _TABLE["cameras"]
PER_CAMERA = tuple(
    _TABLE[name]
    for name in (
        "max_rate_hz",
        "output_resolution",
        "roi",
        "rotation",
        "letterbox",
        "image_transport",
        "image_bits",
    )
)
"""Those that each of several cameras has of its own, too, as `front.rotation`."""
