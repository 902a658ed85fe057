"""Which labels belong to which image of a bag: stamps that jump, come late, or are nearly another image's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no messages to pair")

from support.street_bags import BEGIN_NS, IMAGE, image

from rt_segmentation.bags.reading import Message
from rt_segmentation.evaluation.bag.clock import choose_moment, stamp_of
from rt_segmentation.evaluation.bag.frames import with_truth
from rt_segmentation.evaluation.bag.truth import FolderTruth, TopicTruth, Truth
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.imaging.codec import encode_png

MS = 1_000_000
Entry = tuple[int, str, int, int]
"""Milliseconds recorded, topic, milliseconds of the stamp, number of the image."""


def messages(entries: Iterable[Entry]) -> list[Message]:
    """In the order recorded."""
    return [
        Message(
            topic,
            IMAGE,
            BEGIN_NS + recorded * MS,
            image(np.full((32, 32), number, np.uint8), BEGIN_NS + stamp * MS),
        )
        for recorded, topic, stamp, number in sorted(entries, key=lambda entry: entry[0])
    ]


def pairs(entries: Iterable[Entry], truth: Truth) -> list[tuple[int, int | None]]:
    """Of each image its number and that of its labels."""
    found = with_truth(messages(entries), "camera", truth)
    return [
        (int(frame.message.content.data[0]), None if frame.truth is None else int(frame.truth[0, 0]))
        for frame in found
    ]


def recording(
    count: int, period: int = 100, late: int = 30, stamp: Callable[[str, int], int] | None = None
) -> list[Entry]:
    """Images, each with labels; `stamp` gives the stamp by topic and number."""
    at = stamp or (lambda topic, number: number * period)
    entries = [(number * period + 5, "camera", at("camera", number), number) for number in range(count)]
    return entries + [
        (number * period + late, "truth", at("truth", number), number) for number in range(count)
    ]


def test_labels_of_the_future_cost_their_own_image_alone() -> None:
    def stamp(topic: str, number: int) -> int:
        return number * 100 + (3_600_000 if (topic, number) == ("truth", 20) else 0)

    found = pairs(recording(60, stamp=stamp), TopicTruth(50 * MS))

    assert found == [(number, None if number == 20 else number) for number in range(60)]


@pytest.mark.parametrize("stray", [-1_700_000_000, 3_600_000])
def test_one_image_of_another_time_costs_no_other_image_its_labels(stray: int) -> None:
    def stamp(topic: str, number: int) -> int:
        return stray if (topic, number) == ("camera", 20) else number * 100

    entries = recording(60, stamp=stamp)
    # All labels lie at the bag's begin.
    entries = [
        (number if topic == "truth" else at + 5000, topic, of, number) for at, topic, of, number in entries
    ]

    found = pairs(entries, TopicTruth(50 * MS))

    assert found == [(number, None if number == 20 else number) for number in range(60)]


@pytest.mark.parametrize("twice", [False, True])
def test_stamps_that_begin_anew_are_paired_on(twice: bool) -> None:
    entries = recording(100, stamp=lambda _, number: (number if number < 60 else number - 60) * 100)
    if twice:
        # The labels of before the restart are there still, under stamps that come again.
        entries += [(entry[0] + 10, *entry[1:]) for entry in entries if entry[1] == "truth"]

    assert pairs(entries, TopicTruth(50 * MS)) == [(number, number) for number in range(100)]


@pytest.mark.parametrize(("period", "late"), [(10, 800), (10, -800), (16, 1200), (100, 1900)])
def test_labels_are_waited_for_two_seconds_whatever_the_rate(period: int, late: int) -> None:
    entries = recording(200, period, late)

    assert pairs(entries, TopicTruth(period * MS // 2)) == [(number, number) for number in range(200)]


def with_neighbours() -> list[Entry]:
    """Every sixth image has labels, and 10 ms before it another image was taken."""
    entries = [(number * 33 + 5, "camera", number * 33, number) for number in range(40)]
    entries += [(number * 33 - 5, "camera", number * 33 - 10, 100 + number) for number in range(6, 40, 6)]
    return entries


@pytest.mark.parametrize("late", [9, 300, -300])
def test_labels_are_those_of_the_image_whose_stamp_they_have(late: int) -> None:
    entries = [*with_neighbours(), *((n * 33 + late, "truth", n * 33, n) for n in range(0, 40, 6))]

    found = pairs(entries, TopicTruth(16 * MS))

    assert [pair for pair in found if pair[1] is not None] == [(n, n) for n in range(0, 40, 6)]


def test_so_are_those_of_a_folder(tmp_path: Path) -> None:
    for number in range(0, 40, 6):
        path = tmp_path / f"{BEGIN_NS + number * 33 * MS}.png"
        path.write_bytes(encode_png(np.full((32, 32), number, np.uint8)))

    found = pairs(with_neighbours(), FolderTruth(tmp_path, 16 * MS))

    assert [pair for pair in found if pair[1] is not None] == [(n, n) for n in range(0, 40, 6)]


def test_a_name_of_digits_that_are_no_number_is_said(tmp_path: Path) -> None:
    (tmp_path / "\N{SUPERSCRIPT TWO}.png").touch()
    with pytest.raises(EvaluationError, match=r"has '.\.png'; it holds label images named by their stamps"):
        FolderTruth(tmp_path, 1)


@pytest.mark.parametrize("times", [2, 3])
def test_labels_that_are_published_again_are_paired_by_their_stamps(times: int) -> None:
    """By the times recorded many would be nearer to the next image."""
    entries = recording(40, late=70)
    labels = [entry for entry in entries if entry[1] == "truth"]
    entries += [(entry[0] + 10 * again, *entry[1:]) for entry in labels for again in range(1, times)]
    both: dict[str, Any] = {"camera": [], "truth": []}
    for message in messages(entries):
        both[message.topic].append((stamp_of(message), message.recorded_ns))

    assert choose_moment(both["camera"][:32], both["truth"][:8]) == (stamp_of, "")
    assert pairs(entries, TopicTruth(50 * MS)) == [(number, number) for number in range(40)]
