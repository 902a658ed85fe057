"""What the ROS graph says about a topic: which QoS hears its publishers, and why nothing comes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
_COMPRESSED = "/compressed"
_SHOWN_TOPICS = 3
_UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"
"""The middleware's name for the node of a publisher that ended without a word, or has only just come."""

# While nobody publishes: who comes, and sends immediately, is most likely to be heard like this.
FIRST_QOS = (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)


def qos_for(publishers: Iterable[Any]) -> tuple[ReliabilityPolicy, DurabilityPolicy]:
    """The most that a subscription may ask for and still hear each publisher.

    Args:
        publishers: what `Node.get_publishers_info_by_topic` gives, at least one.

    Returns:
        Reliable if all are; transient local if all are, so that what was sent before comes, too.
    """
    profiles = [publisher.qos_profile for publisher in publishers]
    reliable = all(profile.reliability != ReliabilityPolicy.BEST_EFFORT for profile in profiles)
    latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in profiles)
    return (
        ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def why_silent(node: Node, topic: str, wanted: str) -> str:
    """Why nothing may come on a topic, and what to set, in a few words.

    Args:
        node: whose view of the graph is asked.
        topic: its full name; a compressed image's ends in /compressed, which the node has added.
        wanted: the type that is subscribed to, such as `IMAGE`.
    """
    publishers = node.get_publishers_info_by_topic(topic)
    right = {publisher.node_name for publisher in publishers if publisher.topic_type == wanted}
    if right:
        return f"its publisher {owners(right)} sends nothing, or what it sends is lost on the way"
    wrong = sorted({publisher.topic_type for publisher in publishers})
    if wrong:
        return f"it has {', '.join(wrong)}, not {wanted}{_other_transport(topic, wanted, wrong)}"
    own = f"{node.get_fully_qualified_name()}/"
    types = {
        name: kinds
        for name, kinds in node.get_topic_names_and_types()
        if {wanted, IMAGE, COMPRESSED_IMAGE} & {*kinds} and not name.startswith(own)
        # Others may only wait for it, too.
        if node.count_publishers(name)
    }
    return "nobody publishes it" + (_beside(topic, wanted, types) or _elsewhere(topic, wanted, types))


def owners(names: Iterable[str]) -> str:
    """The nodes of publishers, as a part of a sentence; those without a name only where no other is known."""
    known = sorted({*names} - {_UNKNOWN_NODE})
    return ", ".join(known) or "of an unknown node"


def _other_transport(topic: str, wanted: str, found: list[str]) -> str:
    """The advice where the topic is there with the other type of image."""
    if (wanted, found) == (IMAGE, [COMPRESSED_IMAGE]):
        if topic.endswith(_COMPRESSED):
            return f"; set image_transport to compressed and image to {topic[: -len(_COMPRESSED)]}"
        return f"; set image_transport to compressed and remap {topic}{_COMPRESSED} to {topic}"
    if (wanted, found) == (COMPRESSED_IMAGE, [IMAGE]):
        return f"; set image_transport to raw and image to {topic}"
    return ""


def _beside(topic: str, wanted: str, types: dict[str, list[str]]) -> str:
    """The advice where the same camera's images are there under its other name."""
    if wanted == IMAGE and COMPRESSED_IMAGE in types.get(topic + _COMPRESSED, []):
        return f", but {topic}{_COMPRESSED} is there: set image_transport to compressed"
    if wanted != COMPRESSED_IMAGE:
        return ""
    above = topic[: -len(_COMPRESSED)]
    if IMAGE in types.get(above, []):
        return f", but {above} is there with raw images: set image_transport to raw"
    if COMPRESSED_IMAGE in types.get(above, []):
        if above.endswith(_COMPRESSED):
            return f"; set image to {above[: -len(_COMPRESSED)]}, as {_COMPRESSED} is added to it"
        return f", but {above} is there: remap {topic} to it"
    return ""


def _elsewhere(topic: str, wanted: str, types: dict[str, list[str]]) -> str:
    names = sorted(name for name, kinds in types.items() if wanted in kinds)
    if not names:
        return f", and no other topic has {wanted}"
    nearest = difflib.get_close_matches(topic, names, _SHOWN_TOPICS, cutoff=0.0)
    return f"; {wanted} is on {', '.join(nearest)}"
