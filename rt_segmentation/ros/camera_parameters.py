"""The camera node's parameters."""

from __future__ import annotations

from rt_segmentation.imaging.levels import AUTO, IMAGE_BITS
from rt_segmentation.ros.parameters import Parameter

PARAMETERS = (
    Parameter(
        "source",
        "street",
        "What to publish: street (synthetic, with its true labels), a folder of images, or a video file.",
        read_only=True,
    ),
    Parameter(
        "labels",
        "",
        "Folder of label PNGs named like the images of the source folder, published on label.",
        read_only=True,
    ),
    Parameter("rate_hz", 15.0, "Images per second.", "Hz", minimum=0.01, maximum=1000.0, read_only=True),
    Parameter(
        "width",
        0,
        "Width of the images; 0 keeps the source's (the street's is 640) or its aspect ratio.",
        "px",
        minimum=0,
        maximum=7680,
        read_only=True,
    ),
    Parameter(
        "height",
        0,
        "Height of the images; 0 keeps the source's (the street's is 360) or its aspect ratio.",
        "px",
        minimum=0,
        maximum=7680,
        read_only=True,
    ),
    Parameter("seed", 0, "Seed of the synthetic street and everything on it.", minimum=0, read_only=True),
    Parameter("loop", True, "Start a folder or video again after its last image.", read_only=True),
    Parameter(
        "count",
        0,
        "Number of images to publish before the node ends; 0 publishes without end.",
        minimum=0,
        read_only=True,
    ),
    Parameter(
        "image_bits",
        AUTO,
        "Number of bits that 16-bit images of a folder use; auto guesses it from some of them, and logs it.",
        choices=IMAGE_BITS,
        read_only=True,
    ),
    Parameter("frame_id", "camera", "frame_id of all messages.", read_only=True),
    Parameter(
        "base_frame_id",
        "base_link",
        "The robot's frame on the ground; where the street's camera is over it is on /tf_static. Empty: not.",
        read_only=True,
    ),
    Parameter(
        "image_transport",
        "raw",
        "Publish Image on image (raw), or CompressedImage (JPEG) on image/compressed (compressed).",
        choices=("raw", "compressed"),
        read_only=True,
    ),
    Parameter(
        "encoding",
        "rgb8",
        "Encoding of the images; compressed images are gray with mono8 and coloured otherwise.",
        choices=("rgb8", "bgr8", "mono8"),
        read_only=True,
    ),
    Parameter(
        "jpeg_quality", 90, "Quality of the compressed images.", minimum=1, maximum=100, read_only=True
    ),
    Parameter(
        "horizontal_fov_deg",
        70.0,
        "Horizontal field of view in camera_info; that of the street is its own.",
        "deg",
        minimum=1.0,
        maximum=179.0,
        read_only=True,
    ),
    Parameter(
        "reliability",
        "reliable",
        "Reliability of all topics.",
        choices=("reliable", "best_effort"),
        read_only=True,
    ),
    Parameter(
        "queue_depth",
        10,
        "Number of messages kept for a slow subscriber.",
        minimum=1,
        maximum=1000,
        read_only=True,
    ),
    Parameter(
        "wait_for_subscribers",
        0,
        "Publish nothing before the image topic has this number of subscribers.",
        minimum=0,
        read_only=True,
    ),
)
