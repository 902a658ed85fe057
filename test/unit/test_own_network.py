"""A network of the user's: how it becomes known, what may import it, and that engines run it as it is."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: no network to run")

import torch
from support.depthwise_network import Coarse, Depthwise
from support.models import save_untrained
from support.streets import street_scene
from support.tiny_recipe import RECIPE
from torch import nn

import rt_segmentation as rt
from rt_segmentation import networks
from rt_segmentation.cli import main
from rt_segmentation.inference.deploy import deploy
from rt_segmentation.inference.engines import EngineError
from rt_segmentation.inference.network import load_network
from rt_segmentation.models import ModelManifest, read_manifest
from rt_segmentation.networks import NetworkError, build_network, register_network
from rt_segmentation.settings import read_settings
from rt_segmentation.training.distillation import Teachers
from rt_segmentation.training.losses import SegmentationLoss
from rt_segmentation.training.module import SegmentationModule
from rt_segmentation.training.recipe import Distillation, Loss, Recipe
from rt_segmentation.weights import load_weights

PLACE = "support.depthwise_network:Depthwise"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set, so that what a test allows is taken back.
    monkeypatch.setenv(networks.ENVIRONMENT, "")
    monkeypatch.setattr(networks, "_registered", {})


def saved(folder: Path, network: str, kind: Any = Depthwise) -> ModelManifest:
    torch.manual_seed(3)
    return save_untrained(folder / "own.yaml", kind(11), network, (96, 64))


def test_a_registered_network_is_built_by_its_name_with_its_options() -> None:
    register_network("depthwise", Depthwise)
    network: Any = build_network("depthwise", 5, width=6)
    assert (
        isinstance(network, Depthwise) and network.main.out_channels == 5 and network.stem.out_channels == 6
    )
    register_network("depthwise", Depthwise)
    with pytest.raises(NetworkError, match="network 'depthwise' has no option 'deep'; it has width"):
        build_network("depthwise", 5, deep=True)
    with pytest.raises(NetworkError, match="a network 'enet' is known already"):
        register_network("enet", Depthwise)
    with pytest.raises(NetworkError, match=r"give its class, or 'package.module:Class'"):
        register_network("other", "not a place")


def test_a_manifest_does_not_import_code(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('touched', 'w')\nclass Net: pass\n")
    manifest = saved(tmp_path, "evil:Net")
    code = f"import rt_segmentation as rt\nrt.Segmenter({str(manifest.path)!r}, 'torch')"
    environment = {**os.environ, "PYTHONPATH": str(Path(rt.__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "network 'evil:Net' is code that nobody has allowed" in run.stderr
    assert not (tmp_path / "touched").exists()


def test_code_that_is_allowed_runs_and_changes_its_engines_key(tmp_path: Path) -> None:
    networks.allow_network(PLACE)
    assert isinstance(build_network(PLACE, 5), Depthwise)
    assert len(networks.code_digest(PLACE)) == 16 and networks.code_digest("enet") == ""
    with pytest.raises(NetworkError, match="'nowhere:Net' cannot be imported from 'nowhere:Net': No module"):
        networks.allow_network("nowhere:Net")
        build_network("nowhere:Net", 5)


def test_a_classs_engines_key_knows_the_files_of_its_bases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base_of_own.py").write_text("from torch import nn\nclass Base(nn.Module): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    base = importlib.import_module("base_of_own").Base
    register_network("derived", type("Derived", (base, Depthwise), {"__module__": Depthwise.__module__}))
    register_network("typed_in", type("TypedIn", (base,), {"__module__": "builtins"}))
    before = networks.code_digest("derived")
    (tmp_path / "base_of_own.py").write_text("# changed\n")
    assert len(before) == 16 and networks.code_digest("derived") != before
    assert networks.code_digest("typed_in") == ""


def test_a_name_that_nobody_knows_is_refused_when_the_manifest_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path, PLACE).path
    path.write_text(path.read_text().replace(PLACE, "unheard"))
    with pytest.raises(ValueError, match=r"network is 'unheard', it must be one of enet, .*segnet"):
        read_manifest(path)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
@pytest.mark.parametrize("size", [(96, 64), (70, 50)], ids=["multiples", "padded"])
def test_engines_run_it_as_it_is(engine: str, size: tuple[int, int], tmp_path: Path) -> None:
    if engine != "torch":
        pytest.importorskip(engine, reason=f"{engine} is not installed")
    networks.allow_network(PLACE)
    manifest = saved(tmp_path, PLACE)
    width, height = size
    image = street_scene(1, width, height).render(0.0)[0]
    network = Depthwise(11)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in load_weights(manifest).items()}, strict=False)
    padded = np.pad(image, ((0, -height % 4), (0, -width % 4), (0, 0)))
    with torch.inference_mode():
        pixels = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255
        expected = network.eval()(pixels)["out"].argmax(1)[0, :height, :width].numpy()
    labels = rt.Segmenter(manifest, engine, "fp32", size)(image).labels
    assert (labels == expected).mean() > 0.999


def test_logits_of_another_size_are_refused(tmp_path: Path) -> None:
    register_network("coarse", Coarse)
    with pytest.raises(EngineError, match="must give logits"):
        rt.Segmenter(saved(tmp_path, "coarse", Coarse), "torch", "fp32")(np.zeros((64, 96, 3), np.uint8))
    with pytest.raises(NetworkError, match=r"gives \(1, 5, 32, 32\) for images \(1, 3, 64, 64\)"):
        deploy(Coarse(5), 64, 64)(torch.zeros(1, 3, 64, 64))


def test_auxiliary_outputs_count_in_training_as_the_recipe_says() -> None:
    register_network("depthwise", Depthwise)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    labels = torch.randint(0, 11, (2, 64, 64))
    recipe: Recipe = read_settings(Recipe, {**RECIPE, "network": "depthwise"})
    for factor in (0.0, 0.4):
        settings = Loss(auxiliary=factor)
        loss = SegmentationLoss(settings, np.ones(11))
        module: Any = SegmentationModule(
            replace(recipe, loss=settings), tuple("abcdefghijk"), frozenset(), loss, 1
        )
        module.trainer, module.log = SimpleNamespace(world_size=1), lambda *_, **__: None
        given = module.training_step((images, labels, torch.arange(2)), 0)
        outputs = module(images)
        auxiliary = torch.nn.functional.interpolate(outputs["aux"], (64, 64), mode="bilinear")
        expected = loss(outputs["out"], labels) + factor * loss(auxiliary, labels)
        assert given.item() == pytest.approx(expected.item(), rel=1e-5)
        assert expected > loss(outputs["out"], labels) or not factor


@pytest.mark.parametrize("teaches", [False, True], ids=["learns", "teaches"])
def test_crops_of_no_multiple_are_padded_in_training(teaches: bool, tmp_path: Path) -> None:
    """Whatever is beside the crop, the network sees zeros there, and the loss is of the crop alone."""
    register_network("depthwise", Strict)
    images = torch.randint(0, 256, (2, 3, 50, 70), dtype=torch.uint8)
    padded = torch.nn.functional.pad(images, (0, 2, 0, 2)).float() / 255
    recipe: Recipe = read_settings(Recipe, {**RECIPE, "network": "depthwise"})
    if teaches:
        manifest = saved(tmp_path, "depthwise", Strict)
        teachers = Teachers([manifest], Distillation(("x",), temperature=1.0, scales=(1.0, 0.7), flip=True))
        assert teachers.probabilities(images).shape == (2, 11, 50, 70)
        alone = Teachers([manifest], Distillation(("x",), temperature=1.0, scales=(1.0,), flip=False))
        expected = load_network(manifest)(padded)["out"][..., :50, :70].softmax(1)
        torch.testing.assert_close(alone.probabilities(images), expected)
        return
    loss = SegmentationLoss(recipe.loss, np.ones(11))
    module = SegmentationModule(recipe, tuple("abcdefghijk"), frozenset(), loss, 1)
    outputs: Any = module(images)
    assert outputs["out"].shape[2:] == outputs["aux"].shape[2:] == (50, 70)
    whole = module.network(padded)
    torch.testing.assert_close(outputs["out"], whole["out"][..., :50, :70])
    aux = torch.nn.functional.interpolate(whole["aux"], (52, 72), mode="bilinear")
    torch.testing.assert_close(outputs["aux"], aux[..., :50, :70])


class Strict(Depthwise):
    """As the class above, and it takes nothing but multiples."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        assert images.shape[2] % 4 == images.shape[3] % 4 == 0
        return super().forward(images)


class Broken(nn.Module):
    def __init__(self, num_classes: int, kind: str = "fails") -> None:
        super().__init__()
        if kind == "fails":
            {}["nothing"]


class Needs(nn.Module):
    def __init__(self, num_classes: int, needed: int) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("network", "options", "words"),
    [
        (Broken, {}, "network 'odd' cannot be built: KeyError: 'nothing'"),
        (Needs, {}, "cannot be built: TypeError: .*'needed'"),
        (Depthwise, {"width": "many"}, "cannot be built: TypeError"),
        (Depthwise, {"num_classes": 3}, "has no option 'num_classes'; it has width"),
        (Depthwise, {"name": "x"}, "has no option 'name'; it has width"),
        (lambda num_classes: num_classes, {}, "gives a int; it must be a torch.nn.Module"),
    ],
)
def test_what_cannot_be_built_is_said_in_a_sentence(network: Any, options: Any, words: str) -> None:
    register_network("odd", network)
    with pytest.raises(NetworkError, match=words):
        build_network("odd", 2, **options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise RuntimeError('no luck')", "cannot be imported from '.*': RuntimeError: no luck"),
        ("def (", "cannot be imported from '.*': SyntaxError"),
        ("Net = 3", "is 3; it must be a class"),
    ],
)
def test_a_module_that_cannot_be_imported_is_said_in_a_sentence(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"odd_network_{abs(hash(text))}"
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    networks.allow_network(f"{module}:Net")
    with pytest.raises(NetworkError, match=words):
        build_network(f"{module}:Net", 2)


def test_a_fault_in_a_network_of_the_users_is_not_blamed_on_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: Any) -> None:
        raise RuntimeError("shape '[1, 2]' is invalid")

    monkeypatch.setattr("rt_segmentation.commands.parameters.main", fail)
    with pytest.raises(RuntimeError):
        main(["--network", PLACE, "parameters", "yaml"])
    assert f"a fault of your network ({PLACE}) or of rt_segmentation" in capsys.readouterr().err


class Pair(Depthwise):
    def forward(self, images: torch.Tensor) -> Any:
        return tuple(super().forward(images).values())


class OneMore(Depthwise):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes + 1)


@pytest.mark.parametrize(
    ("network", "words"),
    [(Pair, "gives a tuple; it must give logits"), (OneMore, "gives logits of 3 classes, where 2 are asked")],
)
def test_training_refuses_what_are_no_logits_of_the_classes(network: Any, words: str) -> None:
    register_network("odd", network)
    recipe: Recipe = read_settings(Recipe, {**RECIPE, "network": "odd"})
    loss = SegmentationLoss(recipe.loss, np.ones(2))
    module: Any = SegmentationModule(recipe, ("a", "b"), frozenset(), loss, 1)
    images, labels = torch.zeros((2, 3, 64, 64), dtype=torch.uint8), torch.zeros((2, 64, 64)).long()
    with pytest.raises(NetworkError, match=words):
        module.training_step((images, labels, torch.arange(2)), 0)
