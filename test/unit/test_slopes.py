"""The PReLU slopes of an ENet, by depth."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: no network to look into")

from research import slopes as tool
from research.slopes import slopes
from rt_segmentation.models import ModelError, find_model
from rt_segmentation.weights import load_weights


def test_slopes_are_the_weights_of_all_prelus_from_first_to_last() -> None:
    manifest = find_model("enet")
    found = slopes(manifest)
    weights = load_weights(manifest)
    # Table 1: one in the initial block, three in each of the 27 bottlenecks.
    assert len(found) == 1 + 3 * 27
    assert (found[0].layer, found[-1].layer) == ("encoder.initial.activation.1", "stage5.activation")
    assert sum(one.main_branch for one in found) == 28
    for one in found:
        np.testing.assert_array_equal(one.values, weights[f"{one.layer}.weight"])
        assert f"{one.layer}.running_mean" not in weights


def test_they_are_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "slopes.png"
    tool.main(Namespace(name="enet", out=picture))
    drawn = cv2.imread(str(picture))
    assert drawn is not None and np.ptp(drawn) > 100
    with pytest.raises(ModelError, match="which has no PReLU"):
        tool.main(Namespace(name="lednet", out=tmp_path / "none.png"))
