"""Documentation and security policy are what the table of topics says now."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from rt_segmentation.cli import main
from rt_segmentation.commands.topics import documentation
from rt_segmentation.resources import share_dir
from rt_segmentation.ros.security_policy import policy
from rt_segmentation.ros.topics import TOPICS, topics_of


def test_the_documentation_is_up_to_date() -> None:
    path = share_dir() / "docs" / "topics.md"
    if not path.is_file():
        pytest.skip("docs are in the source tree only, they are not installed")
    assert path.read_text() == documentation(), "run: rt_seg topics markdown > docs/topics.md"


def test_each_topic_has_a_row_of_five_cells() -> None:
    rows = [line for line in documentation().splitlines() if line.startswith("| `")]
    assert len(rows) == sum(len(topics) for topics in TOPICS.values())
    assert {row.count(" | ") for row in rows} == {4}


def test_several_cameras_have_topics_of_their_own() -> None:
    several = topics_of(["front", "rear"])["segmentation_node"]
    names = [topic.name for topic in several]
    assert len(names) == len(set(names)) == 2 * len(TOPICS["segmentation_node"]) - 1
    assert {"front/image", "rear/camera_info", "~/front/label/compressed", "/diagnostics"} <= set(names)
    assert topics_of([""]) == TOPICS
    shown = documentation(["front", "rear"])
    assert all(f"| `{name}` (" in shown for name in names)
    assert all(f"<topic>{name}</topic>" in policy(["front", "rear"]) for name in names)


@pytest.mark.parametrize("form", ["markdown", "sros2"])
@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["front rear"], "--cameras is front rear: 'front rear' is no name"),
        (["front", "<rear>"], "'<rear>' is no name"),
        (["front", "front"], "each camera must have a name of its own"),
    ],
)
def test_names_that_the_nodes_refuse_have_no_topics(
    capsys: pytest.CaptureFixture[str], form: str, names: list[str], why: str
) -> None:
    assert main(["topics", form, "--cameras", *names]) == 2
    said = capsys.readouterr()
    assert why in said.err and not said.out


def test_the_security_policy_is_up_to_date() -> None:
    path = share_dir() / "config" / "sros2" / "rt_segmentation.policy.xml"
    assert path.read_text() == policy(), "run: rt_seg topics sros2 > config/sros2/rt_segmentation.policy.xml"


# SROS2's schema of version 0.2.0: what may be in what, and with which attributes.
CHILDREN = {
    "policy": {"enclaves"},
    "enclaves": {"enclave"},
    "enclave": {"profiles"},
    "profiles": {"profile"},
    "profile": {"topics", "services", "actions"},
    "topics": {"topic"},
    "services": {"service"},
    "topic": set(),
    "service": set(),
}
REQUIRED = {"policy": {"version"}, "enclave": {"path"}, "profile": {"ns", "node"}}
OPTIONAL = {"topics": {"publish", "subscribe"}, "services": {"reply", "request"}}


def test_the_security_policy_has_the_form_that_sros2_reads() -> None:
    root = ElementTree.fromstring(policy())
    assert (root.tag, root.get("version")) == ("policy", "0.2.0")
    for element in root.iter():
        assert {child.tag for child in element} <= CHILDREN[element.tag]
        required = REQUIRED.get(element.tag, set())
        assert required <= set(element.attrib) <= required | OPTIONAL.get(element.tag, set())
        assert all(value in ("ALLOW", "DENY") for key, value in element.items() if key not in required)
        assert bool(len(element)) != bool((element.text or "").strip())
