"""What a training starts from: models, encoders, foreign checkpoints; and an encoder's own training."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.models import save_untrained
from torch import nn

from rt_segmentation.data.augment import Augmentation
from rt_segmentation.data.class_folders import ClassFolders
from rt_segmentation.data.dataset import DatasetError
from rt_segmentation.labels import load_label_set
from rt_segmentation.models import ModelError, ModelManifest, Score, find_model
from rt_segmentation.networks import build_network
from rt_segmentation.training.classification import EncoderClassifier, train_classifier
from rt_segmentation.training.distillation import find_teachers
from rt_segmentation.training.encoders import encoder_tensors, write_encoder
from rt_segmentation.training.errors import TrainingError
from rt_segmentation.training.initialise import class_axes, find_start, initialise
from rt_segmentation.training.machine import Machine
from rt_segmentation.training.recipe import Distillation, Optimizer, Recipe, Schedule, load_recipe
from rt_segmentation.weights import load_weights, save_model


def recipe_for(network: str, label_set: str = "camvid11", **options: Any) -> Recipe:
    return replace(
        load_recipe("enet_camvid"), name="r", network=network, label_set=label_set, options=options
    )


def build(recipe: Recipe) -> nn.Module:
    return build_network(recipe.network, len(load_label_set(recipe.label_set).classes), **recipe.options)


def store(folder: Path, recipe: Recipe, name: str = "first") -> tuple[ModelManifest, dict[str, torch.Tensor]]:
    """A model with random weights for a recipe."""
    network = build(recipe)
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    path = folder / f"{name}.yaml"
    manifest = save_untrained(path, network, recipe.network, (64, 64), recipe.label_set, recipe.options)
    return manifest, state


def loaded(network: nn.Module, state: dict[str, torch.Tensor], before: dict[str, torch.Tensor]) -> set[str]:
    """Names of the tensors that are the given ones; all others must be as before."""
    after = network.state_dict()
    same = {k for k, v in state.items() if k in after and torch.equal(after[k], v)}
    # Batch norms that were never trained are equal in any two networks.
    assert all(torch.equal(after[key], before[key]) for key in set(after) - same)
    return {key for key in same if not torch.equal(state[key], before[key])}


def run(recipe: Recipe, start: ModelManifest | Path, state: dict[str, torch.Tensor]) -> tuple[str, set[str]]:
    torch.manual_seed(7)
    network = build(recipe)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    # All that a network begins with at random must differ from what it starts from.
    sentence = initialise(network, recipe, start)
    return sentence, loaded(network, state, before)


def random_parts(recipe: Recipe) -> set[str]:
    """Names of tensors that are random in a new network."""
    torch.manual_seed(1)
    first = build(recipe).state_dict()
    return {key for key, value in build(recipe).state_dict().items() if not torch.equal(value, first[key])}


@pytest.mark.parametrize(
    ("network", "options"),
    [("linknet", {}), ("enet", {}), ("enet_encoder", {}), ("lednet", {"decoder": "heavy"})],
)
def test_a_model_of_the_same_network_gives_all(tmp_path: Path, network: str, options: dict[str, Any]) -> None:
    recipe = recipe_for(network, **options)
    manifest, state = store(tmp_path, recipe)
    sentence, names = run(recipe, manifest, state)
    assert names == random_parts(recipe)
    assert sentence == f"starts from model 'first': all {len(state)} tensors"


def own_classes(folder: Path, names: list[str]) -> str:
    """The file of a label set with these classes."""
    classes = "".join(f"  - {{id: {i}, name: {n}, color: [{i}, 0, 0]}}\n" for i, n in enumerate(names))
    path = folder / "own_classes.yaml"
    path.write_text(f"name: own\nclasses:\n{classes}")
    return str(path)


@pytest.mark.parametrize("network", ["linknet", "enet", "lednet"])
def test_classes_of_the_same_name_keep_their_weights(tmp_path: Path, network: str) -> None:
    # Of CamVid's eleven a few, in another order and another writing, and a new one.
    label_set = own_classes(tmp_path, ["car", "pothole", "sign symbol", "Road"])
    manifest, state = store(tmp_path, recipe_for(network))
    recipe = recipe_for(network, label_set)
    torch.manual_seed(7)
    built = build(recipe)
    before = {key: value.clone() for key, value in built.state_dict().items()}
    sentence = initialise(built, recipe, manifest)
    assert "but for those of car, sign symbol, Road, which have their names there; pothole is new" in sentence
    changing, theirs, ours = 0, (8, 6, 3), (0, 2, 3)
    for key, value in built.state_dict().items():
        if key not in state:
            continue
        if value.shape == state[key].shape:
            assert torch.equal(value, state[key])
            continue
        changing += 1
        assert value.ndim
        axes = class_axes(network, 4, {})[key]
        assert axes and all((state[key].shape[axis], value.shape[axis]) == (11, 4) for axis in axes)
        # One axis after the other, as slices: another way than that of the code.
        expected, given = value, state[key]
        for axis in axes:
            expected = torch.stack([expected.select(axis, i) for i in ours], axis)
            given = torch.stack([given.select(axis, i) for i in theirs], axis)
        assert torch.equal(expected, given), key
        if len(axes) == 1:
            assert torch.equal(value.select(axes[0], 1), before[key].select(axes[0], 1)), key
    assert changing >= 1


def test_sub_pixels_of_a_class_stay_random(tmp_path: Path) -> None:
    axes = class_axes("linknet", 5, {"upsampling": "sub_pixel"})
    label_set = own_classes(tmp_path, ["Road", "pothole"])
    manifest, _ = store(tmp_path, recipe_for("linknet", upsampling="sub_pixel"))
    recipe = recipe_for("linknet", label_set, upsampling="sub_pixel")
    assert initialise(build(recipe), recipe, manifest).endswith("keep their random start")
    assert axes and not any(axes.values())


@pytest.mark.parametrize(
    ("network", "label_set", "last"),
    [
        ("linknet", "other19", {"classifier"}),
        ("enet", "other19", {"classifier"}),
        ("enet", "other11", {"classifier"}),
        ("lednet", "other19", {"encoder.classifier", "apn.global_branch", "apn.middle"}),
    ],
)
def test_other_classes_leave_the_layers_that_depend_on_them(
    tmp_path: Path, network: str, label_set: str, last: set[str]
) -> None:
    label_set = own_classes(tmp_path, [f"thing {i}" for i in range(int(label_set[-2:]))])
    manifest, state = store(tmp_path, recipe_for(network))
    recipe = recipe_for(network, label_set)
    sentence, names = run(recipe, manifest, state)
    left = random_parts(recipe) - names
    assert {key for key in left if not key.startswith(tuple(last))} == set()
    assert {name for name in last if any(key.startswith(name) for key in left)} == last
    assert "classes are others (camvid11)" in sentence
    assert "keep their random start" in sentence


def test_enets_encoder_gives_the_second_stage_its_encoder(tmp_path: Path) -> None:
    manifest, state = store(tmp_path, recipe_for("enet_encoder", "cityscapes19"))
    recipe = recipe_for("enet")
    sentence, names = run(recipe, manifest, state)
    assert names == {key for key in random_parts(recipe) if key.startswith("encoder.")}
    assert "the encoder of model 'first'" in sentence
    assert "(in up4, stage4, up5, stage5, classifier)" in sentence


def test_torchvisions_resnet18_gives_linknet_its_encoder(tmp_path: Path) -> None:
    recipe = recipe_for("linknet")
    state = {k: v for k, v in build(recipe).state_dict().items() if k.startswith(("conv1", "bn1", "layer"))}
    torch.save({**state, "fc.weight": torch.ones(1000, 512), "fc.bias": torch.ones(1000)}, tmp_path / "r.pth")
    sentence, names = run(recipe, find_start(tmp_path / "r.pth", tmp_path), state)
    assert names == {k for k in random_parts(recipe) if k.startswith(("conv1", "bn1", "layer"))}
    assert "the encoder in r.pth" in sentence
    with pytest.raises(ModelError, match=r"r\.pth is for linknet .*, lednet is wanted"):
        initialise(build(recipe_for("lednet")), recipe_for("lednet"), tmp_path / "r.pth")


def test_a_start_for_other_images_is_refused_or_told(tmp_path: Path) -> None:
    def imagenets(recipe: Recipe, **changes: Any) -> Recipe:
        return replace(recipe, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), **changes)

    for network, start in (("enet", "enet"), ("enet", "enet_encoder")):
        manifest, _ = store(tmp_path, recipe_for(start), start)
        recipe = imagenets(recipe_for(network))
        fresh = build(recipe)
        before = {key: value.clone() for key, value in fresh.state_dict().items()}
        sentence = (
            rf"model '{start}' was trained on images with mean \[0.0, 0.0, 0.0\] and std \[1.0, 1.0, 1.0\],"
            r" recipe 'r' has mean \[0.485, 0.456, 0.406\] and std \[0.229, .*; give the recipe the model's"
        )
        with pytest.raises(ModelError, match=sentence):
            initialise(fresh, recipe, manifest)
        assert all(torch.equal(value, before[key]) for key, value in fresh.state_dict().items())
        # The same, but for the last digits.
        its = replace(manifest, mean=(0.4851, 0.4559, 0.4061), std=(0.2292, 0.2241, 0.225))
        assert "starts from" in initialise(fresh, recipe, its)

    # An encoder alone gets new layers in any case; but frozen norms have no way to get used to it.
    linknet = recipe_for("linknet")
    state = {k: v for k, v in build(linknet).state_dict().items() if k.startswith(("conv1", "bn1", "layer"))}
    torch.save({**state, "fc.weight": torch.ones(1000, 512), "fc.bias": torch.ones(1000)}, tmp_path / "r.pth")
    said = initialise(build(linknet), linknet, tmp_path / "r.pth")
    assert "it was trained on images with mean [0.485, 0.456, 0.406]" in said and "get used to them" in said
    assert "mean" not in initialise(build(linknet), imagenets(linknet), tmp_path / "r.pth")
    with pytest.raises(ModelError, match=r"the encoder in r.pth was trained .* or leave frozen_norms out"):
        initialise(build(linknet), replace(linknet, frozen_norms=True), tmp_path / "r.pth")


def test_what_does_not_fit_is_refused_and_loads_nothing(tmp_path: Path) -> None:
    manifest, _ = store(tmp_path, recipe_for("lednet"))
    for recipe in (recipe_for("enet"), recipe_for("lednet", decoder="heavy")):
        network = build(recipe)
        before = {key: value.clone() for key, value in network.state_dict().items()}
        with pytest.raises(ModelError, match=r"'first' is lednet \{\}, recipe 'r' wants "):
            initialise(network, recipe, manifest)
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    linknet = recipe_for("linknet")
    encoder = tmp_path / "e.safetensors"
    write_encoder(encoder, "lednet", build(recipe_for("lednet")).state_dict(), {})
    with pytest.raises(ModelError, match="unknown source"):
        initialise(build(linknet), linknet, encoder)
    with pytest.raises(ModelError, match="'enet' has no encoder to train or to load alone"):
        initialise(build(recipe_for("enet")), recipe_for("enet"), encoder)
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, encoder)
    with pytest.raises(ModelError, match=r"encoder in e\.safetensors do not fit the network: 99 .* missing"):
        initialise(build(linknet), linknet, encoder)
    manifest.weights_path.write_bytes(b"x")
    with pytest.raises(ModelError, match="sha256"):
        initialise(build(recipe_for("lednet")), recipe_for("lednet"), manifest)


def test_a_start_is_found_by_name_and_path(tmp_path: Path) -> None:
    manifest, _ = store(tmp_path, recipe_for("enet"), "enet_camvid")
    with pytest.raises(ModelError, match=r"the training of 'enet_camvid' in .* has not ended"):
        find_start("enet_camvid", tmp_path)
    scored = replace(manifest, scores=(Score("mean_iou", "camvid", "val", 0.5, 480, 360),))
    manifest = save_model(scored, load_weights(manifest))
    assert find_start("enet_camvid", tmp_path) == manifest
    assert find_start(manifest.path, tmp_path / "elsewhere") == manifest
    assert find_start("enet_town", tmp_path / "elsewhere") == find_model("enet_town")
    write_encoder(tmp_path / "e.safetensors", "lednet", build(recipe_for("lednet")).state_dict(), {})
    assert find_start("e", tmp_path) == tmp_path / "e.safetensors"
    with pytest.raises(ModelError, match="unknown model 'nothing'"):
        find_start("nothing", tmp_path)
    with pytest.raises(ModelError, match="there is no file"):
        find_start("nothing.pth", tmp_path)


def test_a_models_name_may_have_a_dot(tmp_path: Path) -> None:
    manifest, _ = store(tmp_path, recipe_for("enet"), "site_v1.5")
    scored = replace(manifest, scores=(Score("mean_iou", "camvid", "val", 0.5, 480, 360),))
    manifest = save_model(scored, load_weights(manifest))
    assert find_start("site_v1.5", tmp_path) == manifest
    teaching = replace(recipe_for("enet"), distillation=Distillation(("site_v1.5",)))
    shutil.copytree(tmp_path, tmp_path / "runs" / "site_v1.5", ignore=shutil.ignore_patterns("runs"))
    (teacher,) = find_teachers(teaching, tmp_path / "runs")
    assert teacher.sha256 == manifest.sha256
    write_encoder(tmp_path / "e.v2.safetensors", "lednet", build(recipe_for("lednet")).state_dict(), {})
    assert find_start("e.v2", tmp_path) == tmp_path / "e.v2.safetensors"
    with pytest.raises(
        ModelError, match=r"there is no file site_v1\.6 to start .* and no model of that name"
    ):
        find_start("site_v1.6", tmp_path)


def make_classes(root: Path, split: str, classes: dict[str, int]) -> None:
    """Images of 40x48 that are red, or green, or blue, with noise."""
    rng = np.random.default_rng(len(split))
    for channel, (name, count) in enumerate(classes.items()):
        (root / split / name).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 80, (40, 48, 3)).astype(np.uint8)
            image[..., 2 - channel] += 150
            cv2.imwrite(str(root / split / name / f"{i}.png"), image)


def test_class_folders(tmp_path: Path) -> None:
    make_classes(tmp_path, "train", {"b": 2, "a": 1})
    images = ClassFolders(tmp_path, "train")
    assert images.classes == ("a", "b")
    assert [images[i][1] for i in range(len(images))] == [0, 1, 1]
    # Class a's images are green, here as RGB.
    assert images[0][0].shape == (40, 48, 3)
    assert images[0][0].mean((0, 1)).argmax() == 1
    (tmp_path / "train" / "c").mkdir()
    with pytest.raises(DatasetError, match="classes without images: c"):
        ClassFolders(tmp_path, "train")
    with pytest.raises(DatasetError, match="has 0 class folders"):
        ClassFolders(tmp_path / "train", "a")
    with pytest.raises(DatasetError, match="does not exist"):
        ClassFolders(tmp_path, "val")


def classifier_recipe() -> Recipe:
    return replace(
        load_recipe("lednet_imagenet"),
        name="tiny_encoder",
        width=32,
        height=32,
        augmentation=Augmentation(32, 32, 1, 1.2, True),
        epochs=8,
        batch_size=4,
        optimizer=Optimizer("adam", 0.003),
        schedule=Schedule("cosine"),
    )


def test_an_encoder_learns_classes_and_starts_a_segmentation(tmp_path: Path) -> None:
    for split in ("train", "val"):
        make_classes(tmp_path / "data", split, {"red": 6, "green": 6})
    machine = Machine.here("fp32", workers=0)
    path = train_classifier(classifier_recipe(), tmp_path / "data", tmp_path / "out", machine)
    assert path == find_start("tiny_encoder", tmp_path / "out" / "tiny_encoder")
    assert [file.name for file in path.parent.glob("*.safetensors")] == ["tiny_encoder.safetensors"]
    rows = list(csv.DictReader((path.parent / "log.csv").read_text().splitlines()))
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert len(losses) == 8 * 3
    assert np.mean(losses[-3:]) < 0.5 < np.mean(losses[:3])
    with safe_open(path, "pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        about = file.metadata()
    assert (about["network"], about["recipe"], about["classes"]) == ("lednet", "tiny_encoder", "2")
    assert 1 <= int(about["epoch"]) <= 8
    recipe = recipe_for("lednet", decoder="heavy")
    sentence, names = run(recipe, path, state)
    assert "the encoder in tiny_encoder.safetensors" in sentence
    # Running statistics too have been learned.
    assert names == set(state)
    assert names >= {key for key in random_parts(recipe) if key.startswith("encoder.layers.")}


@pytest.mark.parametrize(("network", "channels"), [("lednet", 128), ("linknet", 512)])
def test_a_classifier_is_the_encoder_and_a_linear_layer(network: str, channels: int) -> None:
    module = EncoderClassifier(replace(classifier_recipe(), network=network), 3, 1)
    assert module.classifier.weight.shape == (3, channels)
    logits = module(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    logits.sum().backward()
    assert logits.shape == (2, 3)
    parameters = dict(module.network.named_parameters())
    trained = {key for key, value in parameters.items() if value.grad is not None}
    assert trained == set(encoder_tensors(network, parameters))


def test_a_classifiers_loss_that_is_not_a_number_names_the_images(tmp_path: Path) -> None:
    for split in ("train", "val"):
        make_classes(tmp_path, split, {"red": 3, "green": 3})
    recipe = replace(classifier_recipe(), optimizer=Optimizer("adam", 1e30), schedule=Schedule("constant"))
    with pytest.raises(
        TrainingError, match=r"nan at step \d+ .* with the images /.*\.png; look at"
    ) as caught:
        train_classifier(recipe, tmp_path, tmp_path / "out", Machine.here("fp32", workers=0))
    assert str(caught.value).count(".png") == recipe.batch_size


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_cannot_be_read_are_named_before_anything_is_trained(
    tmp_path: Path, workers: int
) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = np.full((40, 40, 3), number, np.uint8)
                cv2.imwrite(str(tmp_path / split / name / f"{number}.png"), pixels)
    broken = [tmp_path / "train" / "cat" / "1.png", tmp_path / "val" / "dog" / "0.png"]
    for path in broken:
        path.write_bytes(path.read_bytes()[:40])
    recipe = replace(load_recipe("lednet_imagenet"), batch_size=2, epochs=1)
    with pytest.raises(DatasetError) as caught:
        train_classifier(recipe, tmp_path, tmp_path / "out", Machine.here("fp32", workers))
    assert "Traceback" not in str(caught.value)
    assert all(str(path) in str(caught.value) for path in broken)
    assert not (tmp_path / "out").exists()


def test_a_classifier_says_what_is_wrong(tmp_path: Path) -> None:
    make_classes(tmp_path, "train", {"red": 1, "green": 1})
    make_classes(tmp_path, "val", {"red": 1, "blue": 1})
    machine = Machine.here("fp32", workers=0)
    with pytest.raises(DatasetError, match="not the same classes, as 'blue'"):
        train_classifier(classifier_recipe(), tmp_path, tmp_path, machine)
    same = replace(classifier_recipe(), validation={"dataset": "class_folders", "split": "train"})
    with pytest.raises(TrainingError, match="has 4 images: there must be as many to train on, not 2"):
        train_classifier(same, tmp_path, tmp_path, machine)
    with pytest.raises(
        ModelError, match="'enet' has no encoder to train or to load alone; linknet, lednet have"
    ):
        train_classifier(replace(same, network="enet", batch_size=2), tmp_path, tmp_path, machine)
