"""From a robot's bag to a better model: all steps one after the other, and a training on few images."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="torch is not installed: no network to run")
pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")
pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")

from support.street_bags import BEGIN_NS, PERIOD_NS, street, street_bag  # noqa: E402
from support.tiny_recipe import RECIPE  # noqa: E402

from rt_segmentation.api import Segmenter  # noqa: E402
from rt_segmentation.cli import main  # noqa: E402
from rt_segmentation.imaging.pictures import write_picture  # noqa: E402
from rt_segmentation.labels import load_label_set  # noqa: E402
from rt_segmentation.models import ModelManifest, read_manifest  # noqa: E402
from rt_segmentation.settings import read_settings  # noqa: E402
from rt_segmentation.training.machine import Machine  # noqa: E402
from rt_segmentation.training.module import SegmentationModule  # noqa: E402
from rt_segmentation.training.recipe import Recipe, RecipeError, load_recipe  # noqa: E402
from rt_segmentation.training.run import Training  # noqa: E402
from rt_segmentation.weights import load_weights  # noqa: E402

CLASSES = ("road", "building", "SKY", "kerb")


@pytest.mark.parametrize("network", ["enet", "lednet"])
def test_frozen_norms_keep_their_statistics(network: str) -> None:
    recipe = read_settings(Recipe, {**RECIPE, "network": network, "init_from": "x", "frozen_norms": True})
    torch.manual_seed(0)
    module = SegmentationModule(recipe, tuple(map(str, range(11))), frozenset(), torch.nn.Identity(), 1)
    # As it is made, and after a validation.
    frozen = [name for name, m in module.network.named_modules() if not m.training]
    module.eval()
    module.train()
    assert frozen and frozen == [name for name, m in module.network.named_modules() if not m.training]
    before = {key: value.clone() for key, value in module.network.state_dict().items()}
    module(torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)).sum().backward()
    changed = {
        key for key, value in module.network.state_dict().items() if not torch.equal(value, before[key])
    }
    # Norms of layers that depend on the classes have statistics that no other model had.
    assert all(before[key].shape in ((), (11,), (1,)) for key in changed) and (changed or network == "enet")
    # Their scales and shifts learn, and dropout drops.
    norms = [m for m in module.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(norm.weight.grad is not None for norm in norms)
    assert any(m.training for m in module.network.modules() if "Dropout" in type(m).__name__)


def test_frozen_norms_need_a_start() -> None:
    recipe = replace(load_recipe("own_data"), init_from="")
    with pytest.raises(
        RecipeError, match=r"'own_data' has frozen_norms, .* give it init_from, or --init-from"
    ):
        Training.prepare(recipe, None, Machine.here("fp32", 0))
    with pytest.raises(ValueError, match=r"'frozen_norms' .* classification has none"):
        replace(load_recipe("lednet_imagenet"), frozen_norms=True)


def label(folder: Path) -> None:
    """The street's own labels in our classes, for the images of a sample: where a person would work."""
    table = np.full(256, 255, np.uint8)
    names = [name.lower() for name in load_label_set("camvid11").names]
    for i, name in enumerate(("road", "building", "sky", "pavement")):
        table[names.index(name)] = i
    (folder / "labels").mkdir()
    with (folder / "frames.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            number = (int(row["stamp_ns"]) - BEGIN_NS) // PERIOD_NS
            name = Path(row["file"]).with_suffix(".png").name
            write_picture(folder / "labels" / name, table[street(number % 12)[1]])


@pytest.mark.long
def test_from_a_bag_to_a_model_on_the_robot(
    small_model: ModelManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RT_SEG_MODELS", str(tmp_path / "installed"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    old, engine = str(small_model.path), ["--engine", "torch", "--precision", "fp32"]
    street_bag(tmp_path / "night", 12)

    sample = ["bag", "sample", "night", "--apart", "0.1", "--rate", "0", "--count", "4"]
    assert not main([*sample, "--model", old, "--out", "site/train", *engine])
    assert not main([*sample, "--strategy", "uniform", "--out", "site/val"])
    for split in ("train", "val"):
        label(tmp_path / "site" / split)

    lines = [f"  - {{id: {i}, name: {n}, color: [{60 * i}, 0, 90]}}\n" for i, n in enumerate(CLASSES)]
    Path("site_labels.yaml").write_text("name: site\nclasses:\n" + "".join(lines))
    own = {
        "base": "own_data",
        "name": "site",
        "source": "a test",
        "network": "enet",
        "label_set": "site_labels.yaml",
        "augmentation": {"width": 64, "height": 64},
        "width": 160,
        "height": 120,
        "epochs": 2,
        "batch_size": 2,
        "data_license": "none",
    }
    Path("own.yaml").write_text(yaml.safe_dump(own))
    stats = ["dataset", "stats", "--dataset", "folder", "--option", "label_set=site_labels.yaml"]
    assert not main([*stats, "--data-root", "site", "--split", "train"])
    capsys.readouterr()
    train = ["train", "own.yaml", "--data-root", "site", "--init-from", old, "--workers", "0"]
    assert not main([*train, "--precision", "fp32"])
    said = capsys.readouterr().out
    assert "but for those of road, building, SKY, which have their names there; kerb is new" in said
    new = read_manifest(tmp_path / "runs" / "site" / "site.yaml")
    before, after = load_weights(small_model), load_weights(new)
    statistics = [key for key in before if key.endswith(("running_mean", "running_var"))]
    # But for the last bits, which an average of equal numbers may change.
    assert statistics and all(np.allclose(before[key], after[key], 1e-5, 1e-7) for key in statistics)
    assert any(not np.array_equal(before[key], after[key]) for key in before if key not in statistics)

    data = ["--dataset", "folder", "--data-root", "site"]
    assert not main(["compare", old, str(new.path), *data, "--json", "c.json", *engine])
    result = json.loads(Path("c.json").read_text())
    assert [entry["name"] for entry in result["classes"]] == list(CLASSES)
    assert result["labelled_frames"] == 4 and result["mean_iou"]["new"] > 0

    assert not main(["models", "install", str(new.path), *engine])
    found = Segmenter("site", engine="torch", precision="fp32")(street(0)[0])
    assert found.label_set.names == CLASSES and found.labels.shape == (120, 160)
    assert (found.labels < len(CLASSES)).all()
