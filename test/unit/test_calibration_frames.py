"""Frames of a bag to calibrate on: spread over it, decoded as the node does, and nothing else decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags")

from support.street_bags import BEGIN_NS, PERIOD_NS, image, street, street_bag, write_bag

from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.frames import to_frame
from rt_segmentation.bags.reading import Message
from rt_segmentation.commands import export as command
from rt_segmentation.imaging.convert import to_rgb
from rt_segmentation.imaging.frame import Frame

HEIGHT, WIDTH = 60, 80


@pytest.fixture()
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the images that were decoded."""
    numbers: list[int] = []

    def note(message: Message) -> Frame:
        numbers.append((message.recorded_ns - BEGIN_NS) // PERIOD_NS)
        return to_frame(message)

    monkeypatch.setattr("rt_segmentation.bags.frames.to_frame", note)
    return numbers


def test_they_are_evenly_spread_and_no_others_are_decoded(tmp_path: Path, decoded: list[int]) -> None:
    bag = street_bag(tmp_path / "bag", 12)
    frames = command.bag_frames(bag, "camera", 3, HEIGHT, WIDTH)
    assert decoded == [0, 4, 8]
    for number, frame in zip(decoded, frames):
        expected = to_rgb(Frame((street(number)[0],), "rgb8", 160, 120, 0, ""), (WIDTH, HEIGHT))
        assert frame.dtype == np.uint8
        np.testing.assert_array_equal(frame, expected)


def test_in_the_place_of_a_damaged_one_comes_the_next(tmp_path: Path, decoded: list[int]) -> None:
    def cut(number: int, message: Any) -> Any:
        if number in (4, 5):
            message.data = message.data[:-1]
        return message

    bag = street_bag(tmp_path / "bag", 12, change=cut)
    assert len(command.bag_frames(bag, "/camera", 3, HEIGHT, WIDTH)) == 3
    assert decoded == [0, 4, 5, 6, 8]


def test_a_short_bag_gives_what_it_has(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", [("camera", BEGIN_NS, image(street(0)[0], BEGIN_NS))])
    assert len(command.bag_frames(bag, None, 100, HEIGHT, WIDTH)) == 1


def test_of_several_topics_the_images_are_taken_and_said_or_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = street_bag(tmp_path / "bag", 2)
    assert len(command.bag_frames(bag, None, 2, HEIGHT, WIDTH)) == 2
    assert "the images are those of camera; left aside: truth (named as labels)" in capsys.readouterr().err
    rgb = image(street(0)[0], BEGIN_NS)
    two = write_bag(tmp_path / "two", [(name, BEGIN_NS, rgb) for name in ("front", "rear")])
    with pytest.raises(BagError, match=r"several image topics, choose one with --image-topic: front .*rear"):
        command.bag_frames(two, None, 2, HEIGHT, WIDTH)
    with pytest.raises(BagError, match="has no topic lens"):
        command.bag_frames(bag, "lens", 2, HEIGHT, WIDTH)


def test_a_bag_without_whole_images_is_one_sentence(tmp_path: Path) -> None:
    broken = image(street(0)[0], BEGIN_NS, encoding="rgb9")
    bag = write_bag(tmp_path / "bag", [("camera", BEGIN_NS, broken)])
    with pytest.raises(BagError, match=r"bag .*: no image of camera can be decoded: .*'rgb9'"):
        command.bag_frames(bag, None, 2, HEIGHT, WIDTH)
    empty = write_bag(tmp_path / "empty", [])
    with pytest.raises(BagError, match="the bag has no image topic"):
        command.bag_frames(empty, None, 2, HEIGHT, WIDTH)
