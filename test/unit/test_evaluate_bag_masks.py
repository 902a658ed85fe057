"""The masks that an evaluation writes, as our reader and that of MCAP's makers see them: bag and video."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from support.street_bags import BEGIN_NS, PERIOD_NS, settings, street, street_bag

from rt_segmentation.bags.reading import BagReader
from rt_segmentation.evaluation.bag.run import evaluate_bags
from rt_segmentation.evaluation.dataset import segment_image
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.models import ModelManifest

FRAMES = 12


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, small_model: ModelManifest) -> Path:
    """The folder of an evaluation that wrote everything."""
    folder = tmp_path_factory.mktemp("masks")
    bag = street_bag(folder / "street", FRAMES)
    chosen = settings(small_model, folder / "out", write_bag=True, video=True)
    evaluate_bags([bag], chosen, "rt_seg evaluate-bag", threading.Event(), lambda *_: None)
    return folder / "out"


@pytest.fixture(scope="module")
def masks(small_model: ModelManifest) -> list[np.ndarray]:
    """What the segmenter makes of the bag's frames without a bag."""
    segmenter = Segmenter.build(small_model, "torch", "fp32")
    return [segment_image(segmenter, street(i)[0]) for i in range(FRAMES)]


def test_the_mask_bag_holds_the_masks_under_the_stamps_of_their_images(
    out: Path, masks: list[np.ndarray]
) -> None:
    with BagReader(out / "masks" / "0000_street") as reader:
        topics = {topic.name: (topic.type.rpartition("/")[2], topic.count) for topic in reader.topics}
        found = list(reader.messages({"/small/label"}))
        overlays = list(reader.messages({"/small/overlay/compressed"}))
    assert topics == {
        "/small/label": ("Image", FRAMES),
        "/small/confidence": ("Image", FRAMES),
        "/small/color/compressed": ("CompressedImage", FRAMES),
        "/small/overlay/compressed": ("CompressedImage", FRAMES),
        "/small/latency_ms": ("Float64", FRAMES),
    }
    for i, message in enumerate(found):
        stamp = message.content.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == BEGIN_NS + i * PERIOD_NS
        assert message.recorded_ns == BEGIN_NS + i * PERIOD_NS + 1_000_000
        assert message.content.header.frame_id == "camera" and message.content.encoding == "mono8"
        np.testing.assert_array_equal(message.content.data.reshape(120, 160), masks[i])
    assert cv2.imdecode(overlays[0].content.data, cv2.IMREAD_COLOR) is not None


def test_the_readers_of_mcaps_makers_find_the_same_in_the_mask_bag(
    out: Path, masks: list[np.ndarray]
) -> None:
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    found: dict[str, list[Any]] = {}
    with (out / "masks" / "0000_street" / "0000_street_0.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        header = reader.get_header()
        for schema, channel, recorded, message in reader.iter_decoded_messages():
            assert schema is not None and schema.encoding == "ros2msg"
            assert recorded.log_time == BEGIN_NS + len(found.get(channel.topic, ())) * PERIOD_NS + 1_000_000
            found.setdefault(channel.topic, []).append(message)
    assert header.profile == "ros2"
    names = ("label", "confidence", "color/compressed", "overlay/compressed", "latency_ms")
    assert {topic: len(messages) for topic, messages in found.items()} == {
        f"/small/{name}": FRAMES for name in names
    }
    for label, mask in zip(found["/small/label"], masks):
        assert (label.encoding, label.step) == ("mono8", 160)
        np.testing.assert_array_equal(np.frombuffer(label.data, np.uint8).reshape(120, 160), mask)


def test_the_video_has_a_picture_for_each_mask(out: Path) -> None:
    video = cv2.VideoCapture(str(out / "videos" / "0000_street_small.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == FRAMES
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10, abs=0.2)
