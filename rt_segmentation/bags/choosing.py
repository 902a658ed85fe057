"""Which of a bag's image topics is the camera's."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import closing
from types import MappingProxyType

import cv2
import numpy as np

from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.frames import COMPRESSED_IMAGE, IMAGE
from rt_segmentation.bags.reading import BagReader, Message
from rt_segmentation.bags.topics import Topic, choose_topic

IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)
LABEL_WORDS = {"label", "labels", "mask", "masks", "truth", "groundtruth", "segmentation", "semantic"}
DEPTH_WORDS = {"depth", "disparity", "compresseddepth"}
LABELS, IDS, DEPTH = "named as labels", "nothing but small ids", "named as depth"
"""Why a topic is left aside, where a command may have an option for it."""
MAX_ID = 63
"""An image without any larger value, but for that of unlabelled pixels, is one of ids."""
_ID_TYPES = {"mono8": "u1", "8UC1": "u1", "mono16": "u2", "16UC1": "u2", "32SC1": "i4"}


def choose_images(
    reader: BagReader,
    asked: str | None,
    without: Collection[str] = (),
    options: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Topic, str]:
    """The topic of the images to segment.

    Of several, those are left aside that have no messages, that are named as labels or depth are, that carry
    nothing but small ids, or that are another one's '/compressed'; but not the only one with messages, unless
    it carries ids.

    Args:
        reader: of the bag.
        asked: its name; None leaves the choice to the bag.
        without: names of topics that are something else.
        options: what else the command can do with a topic that is left aside, by the reason.

    Returns:
        The topic, and a sentence about what was left aside, or ''.

    Raises:
        BagError: as `choose_topic`; or what is asked for is something else.
    """
    if asked is not None and asked.lstrip("/") in {name.lstrip("/") for name in without}:
        raise BagError(
            f"topic {asked} is asked for as the images, and as something else: they are two topics"
        )
    topics = [topic for topic in reader.topics if topic.name not in without]
    possible = [topic for topic in topics if topic.type in IMAGE_TYPES]
    if asked is not None or len(possible) < 2:
        return choose_topic(topics, asked, IMAGE_TYPES, "image"), ""
    held = [topic for topic in possible if topic.count]
    names = {topic.name for topic in held}
    aside = {topic.name: why for topic in possible if (why := _no_camera(reader, topic, names))}
    left = [topic for topic in possible if topic.name not in aside]
    if not left and len(held) == 1 and _begins_with_ids(reader, held[0]):
        raise BagError(f"none of its topics has a camera's images: {_listed(aside)}; --image-topic takes any")
    chosen = choose_topic(left or held or possible, None, IMAGE_TYPES, "image")
    aside.pop(chosen.name, None)
    hints = dict.fromkeys(options[why] for why in aside.values() if why in options)
    advice = ", ".join(["--image-topic takes any", *hints])
    return chosen, f"the images are those of {chosen.name}; left aside: {_listed(aside)}; {advice}"


def _listed(aside: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in aside.items())


def _no_camera(reader: BagReader, topic: Topic, names: Collection[str]) -> str:
    """Why a topic is none of images to segment, or ''."""
    words = set(re.split(r"[/_\-]", topic.name.lower()))
    if not topic.count:
        return "no messages"
    if words & LABEL_WORDS:
        return LABELS
    if words & DEPTH_WORDS:
        return DEPTH
    if topic.name.removesuffix("/compressed") in set(names) - {topic.name}:
        return "the same images compressed"
    return IDS if _begins_with_ids(reader, topic) else ""


def _begins_with_ids(reader: BagReader, topic: Topic) -> bool:
    with closing(reader.messages([topic.name])) as messages:
        first = next(messages, None)
    return first is not None and _holds_ids(first)


def _holds_ids(message: Message) -> bool:
    content = message.content
    if message.type == COMPRESSED_IMAGE:
        pixels = cv2.imdecode(np.asarray(content.data, np.uint8), cv2.IMREAD_UNCHANGED)
    elif content.encoding in _ID_TYPES:
        order = ">" if content.is_bigendian else "<"
        data = content.data.tobytes()
        dtype = np.dtype(order + _ID_TYPES[content.encoding])
        pixels = np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype)
    else:
        return False
    if pixels is None or pixels.ndim == 3 or not pixels.size:
        return False
    unlabelled = (pixels == 255) | (pixels == 65535)
    return bool(((pixels <= MAX_ID) & (pixels >= 0) | unlabelled).all())
