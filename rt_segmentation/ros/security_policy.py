"""The SROS2 policy: what each node may publish, subscribe to and answer, made from the table of topics."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from rt_segmentation.ros.topics import Topic, topics_of

ENCLAVE = "/rt_segmentation"
# What rclpy gives every node; services that a distribution lacks do no harm.
_PARAMETER_SERVICES = (
    "~/describe_parameters",
    "~/get_parameter_types",
    "~/get_parameters",
    "~/get_type_description",
    "~/list_parameters",
    "~/set_parameters",
    "~/set_parameters_atomically",
)
_LIFECYCLE_SERVICES = (
    "~/change_state",
    "~/get_available_states",
    "~/get_available_transitions",
    "~/get_state",
    "~/get_transition_graph",
)
# Of Nav2's lifecycle manager, where the parameter `bond` is true.
_LIFECYCLE_TOPICS = ("bond",)
_LIFECYCLE_NODES = ("segmentation_node",)
_OWN_SERVICES = {"segmentation_node": ("~/enable", "~/reload")}
_COMMON_OUTPUTS = ("/parameter_events", "/rosout")
_COMMON_INPUTS = ("/clock", "/parameter_events")


def policy(cameras: Sequence[str] = ("",)) -> str:
    """The content of `config/sros2/rt_segmentation.policy.xml`: SROS2's policy, version 0.2.0.

    An enclave a node, named as the node is, in namespace ``/``. Names are those before a remap.

    Args:
        cameras: the segmentation node's, if it has several.
    """
    root = ElementTree.Element("policy", version="0.2.0")
    enclaves = ElementTree.SubElement(root, "enclaves")
    for node, topics in topics_of(cameras).items():
        enclave = ElementTree.SubElement(enclaves, "enclave", path=f"{ENCLAVE}/{node}")
        profiles = ElementTree.SubElement(enclave, "profiles")
        profile = ElementTree.SubElement(profiles, "profile", ns="/", node=node)
        lifecycle = node in _LIFECYCLE_NODES
        both = _LIFECYCLE_TOPICS if lifecycle else ()
        outputs = _COMMON_OUTPUTS + both + (("~/transition_event",) if lifecycle else ())
        _rules(profile, "publish", "topic", _names(topics, False) + outputs)
        _rules(profile, "subscribe", "topic", _names(topics, True) + _COMMON_INPUTS + both)
        services = _PARAMETER_SERVICES + (_LIFECYCLE_SERVICES if lifecycle else ())
        services += _OWN_SERVICES.get(node, ())
        _rules(profile, "reply", "service", services)
    ElementTree.indent(root)
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<!-- Made by `rt_seg topics sros2`. Where a topic is remapped, write its new name here. -->\n"
    )
    return head + ElementTree.tostring(root, encoding="unicode") + "\n"


def _names(topics: tuple[Topic, ...], is_input: bool) -> tuple[str, ...]:
    return tuple(topic.name for topic in topics if topic.is_input == is_input)


def _rules(profile: ElementTree.Element, verb: str, kind: str, names: tuple[str, ...]) -> None:
    rules = ElementTree.SubElement(profile, f"{kind}s", {verb: "ALLOW"})
    for name in sorted(names):
        ElementTree.SubElement(rules, kind).text = name
