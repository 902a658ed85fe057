"""The deploy graphs of the shipped models on CamVid: as docs/benchmarks/README.md states."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
import torch

from rt_segmentation.files import spread
from rt_segmentation.inference.deploy import deploy
from rt_segmentation.inference.network import load_network
from rt_segmentation.inference.parity import images_in, read_frame
from rt_segmentation.models import find_model

ROUNDING = 1e-4
# By model: the largest difference of two logits, and the largest share of pixels that differ by more than
# rounding. Of ENet's max pooling another of two almost equal values may win, and unpooling moves its place.
STATED = {"linknet": (ROUNDING, 0.0), "lednet": (ROUNDING, 0.0), "enet": (8.0, 0.01)}


@pytest.mark.parametrize("name", STATED)
@pytest.mark.parametrize("count", [4, pytest.param(101, marks=pytest.mark.long)])
def test_logits_are_the_networks_and_labels_differ_in_ties_alone(
    name: str, count: int, shared_data: Path
) -> None:
    folder = shared_data / "camvid" / "val" / "images"
    if not folder.is_dir():
        pytest.skip(f"no CamVid at {folder}")
    manifest = find_model(name)
    network = load_network(manifest)
    deployed = deploy(network, manifest.height, manifest.width)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (manifest.mean, manifest.std))
    largest, far, differing, pixels = 0.0, 0, 0, 0
    for path in spread(images_in(folder), count):
        frame = torch.from_numpy(read_frame(path, manifest.height, manifest.width))
        images = ((frame.permute(2, 0, 1).float() / 255 - mean) / std).unsqueeze(0)
        with torch.inference_mode():
            expected, found = network(images), deployed(images)
        difference = (found - expected).abs().amax(1)
        differs = found.argmax(1) != expected.argmax(1)
        top, second = expected.topk(2, 1).values.unbind(1)
        assert not (differs & (top - second > STATED[name][0])).any(), path
        largest = max(largest, difference.max().item())
        far += int((difference > ROUNDING).sum())
        differing += int(differs.sum())
        pixels += differs.numel()
    print(f"{name}: largest difference {largest:.2g}, of {pixels} pixels {far} by more than {ROUNDING:g},")
    print(f"  {differing} with another label")
    assert largest < STATED[name][0]
    assert far <= STATED[name][1] * pixels
    assert differing <= 1e-5 * pixels
