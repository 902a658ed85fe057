"""Recipes: those that come with the package, what a wrong one says, and what is made of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")
import torch
from support.tiny_recipe import RECIPE
from torch import nn
from torch.optim import lr_scheduler

from rt_segmentation.data.registry import DATASETS
from rt_segmentation.labels import load_label_set
from rt_segmentation.networks import build_network
from rt_segmentation.training.optimizers import build_optimizer, configure, factor
from rt_segmentation.training.recipe import (
    Optimizer,
    Recipe,
    RecipeError,
    Schedule,
    load_recipe,
    recipe_names,
)


def write(folder: Path, content: dict[str, Any], name: str = "tiny") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


ABLATIONS = sorted((Path(__file__).parents[2] / "research" / "ablations").glob("[!_]*.yaml"))


@pytest.mark.parametrize("name", [*recipe_names(), *(f"ablation_{path.stem}" for path in ABLATIONS)])
def test_every_recipe_reads_and_its_network_builds(name: str) -> None:
    ablations = {f"ablation_{path.stem}": path for path in ABLATIONS}
    recipe = load_recipe(ablations.get(name, name))
    assert recipe.name == name
    assert recipe.source and recipe.data_license
    assert not any(part.get("split") in ("val", "test") for part in recipe.train)
    classes = 1
    if recipe.task == "segmentation":
        classes = len(load_label_set(recipe.label_set).classes)
        for part in (*recipe.train, recipe.validation):
            assert part["dataset"] in DATASETS
            possible = DATASETS[part["dataset"]].label_sets
            assert not possible or recipe.label_set in possible
    with torch.device("meta"):
        network = build_network(recipe.network, classes, **recipe.options)
    build_optimizer(recipe.optimizer, network)


def every_recipe() -> dict[str, Recipe]:
    """All recipes by their names, the ablations' as well."""
    places: list[str | Path] = [*recipe_names(), *ABLATIONS]
    return {recipe.name: recipe for recipe in map(load_recipe, places)}


def test_what_a_recipe_starts_from_is_a_recipe_of_its_network() -> None:
    by_name = {
        recipe.name: recipe for recipe in (*map(load_recipe, recipe_names()), *map(load_recipe, ABLATIONS))
    }
    starting = [recipe for recipe in by_name.values() if recipe.init_from]
    assert len(starting) >= 6
    for recipe in starting:
        first = by_name[recipe.init_from]
        assert recipe.network.split("_")[0] == first.network.split("_")[0]
        if first.task == "segmentation":
            assert recipe.label_set == first.label_set


def test_teachers_are_recipes_of_the_same_classes_and_learn_from_no_pupil() -> None:
    by_name = {
        recipe.name: recipe for recipe in (*map(load_recipe, recipe_names()), *map(load_recipe, ABLATIONS))
    }
    learning = [recipe for recipe in by_name.values() if recipe.distillation.teachers]
    assert len(learning) >= 3
    for recipe in learning:
        for teacher in (by_name[name] for name in recipe.distillation.teachers):
            assert teacher.label_set == recipe.label_set
            assert not teacher.distillation.teachers and teacher.name != recipe.name


@pytest.mark.parametrize(
    ("name", "optimizer", "rate", "decay", "batch", "size"),
    [
        ("linknet_cityscapes", "rmsprop", 5e-4, 0, 10, (1024, 512)),
        ("linknet_camvid_paper", "rmsprop", 5e-4, 0, 8, (768, 576)),
        ("enet_camvid_encoder", "adam", 5e-4, 2e-4, 10, (480, 360)),
        ("enet_camvid_paper", "adam", 5e-4, 2e-4, 10, (480, 360)),
        ("lednet_cityscapes", "adam", 5e-4, 1e-4, 5, (1024, 512)),
    ],
)
def test_the_papers_numbers(
    name: str, optimizer: str, rate: float, decay: float, batch: int, size: tuple[int, int]
) -> None:
    recipe = load_recipe(name)
    assert (recipe.optimizer.name, recipe.optimizer.learning_rate) == (optimizer, rate)
    assert (recipe.optimizer.weight_decay, recipe.batch_size) == (decay, batch)
    assert (recipe.width, recipe.height) == size == (recipe.augmentation.width, recipe.augmentation.height)
    assert recipe.augmentation.fit
    assert recipe.augmentation.min_scale == recipe.augmentation.max_scale == 1
    assert recipe.loss.class_weights.how == "log"
    assert recipe.loss.class_weights.c == (1.10 if "lednet" in name else 1.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 2}, "unknown key 'epoch'; there are name, source"),
        ({"batch_size": None}, "'batch_size' is None, it must be an integer"),
        ({"batch_size": 0}, "'batch_size' is 0, it must be 1 or more"),
        ({"seed": -1}, "'seed' is -1, it must be from 0 to 4294967295"),
        ({"ema": float("nan")}, "'ema' is nan, it must be a finite number"),
        (
            {"augmentation": {"width": 64, "height": 64, "appearance": {"noise": float("inf")}}},
            "'augmentation.appearance.noise' is inf, it must be a finite number",
        ),
        ({"epochs": True}, "'epochs' is True, it must be an integer"),
        ({"epochs": 2.5}, "'epochs' is 2.5, it must be an integer"),
        ({"name": 3}, "'name' is 3, it must be a text"),
        ({"name": "a/b"}, "'name' is 'a/b', it must be the name of a folder, and not a path"),
        ({"name": ".."}, "'name' is '..', it must be the name of a folder"),
        ({"train": []}, "'train' is empty, it must have one data set or more"),
        ({"train": {"dataset": "street"}}, "'train' is .* must be a list"),
        ({"train": ["street"]}, r"'train\[0\]' is 'street', it must be a mapping"),
        ({"mean": [0.5, 0.5]}, "'mean' has 2 entries, it must have 3"),
        ({"mean": [0.5, 0.5, "a"]}, r"'mean\[2\]' is 'a', it must be a number"),
        ({"std": [0.5, 0.5, 0]}, r"std is \[0.5, 0.5, 0.0\], all must be above 0"),
        ({"std": [0.5, 0.5, 1.0e-300]}, "std .* cannot be meant: they are of images from 0 to 1"),
        ({"mean": [1.0e30, 0, 0]}, "mean .* cannot be meant"),
        ({"width": 24}, "width x height is 24 x 64, both must be 32 or more"),
        ({"height": 1000000}, "96 x 1000000, both must be 16384 or less"),
        ({"ema": 1}, "'ema' is 1.0, it must be from 0 to below 1"),
        ({"label_set": ""}, "segmentation needs the key 'label_set'"),
        ({"task": "classification"}, "classification has none"),
        ({"task": "detection"}, "'task' is 'detection', it must be one of segmentation, classification"),
        ({"augmentation": {"size": 3}}, "unknown key 'augmentation.size'"),
        ({"augmentation": {"max_scale": 0.5}}, "augmentation: .*min_scale <= max_scale"),
        ({"augmentation": {"shear_deg": 90}}, "augmentation: .*below 90"),
        ({"optimizer": "adam"}, "'optimizer' is 'adam', it must be a mapping"),
        ({"optimizer": {"name": "lamb"}}, "'optimizer.name' is 'lamb', it must be one of adamw, adam"),
        (
            {"optimizer": {"learning_rate": "5e-4"}},
            "'optimizer.learning_rate' is '5e-4', it must be a number",
        ),
        ({"optimizer": {"learning_rate": 0}}, "optimizer: learning_rate must be above 0"),
        ({"optimizer": {"momentum": 0.9}}, "optimizer: adamw has no momentum"),
        ({"optimizer": {"name": "sgd", "betas": [0.9, 0.99]}}, "optimizer: sgd has no betas"),
        ({"schedule": {"name": "step"}}, "schedule: step has no power"),
        ({"schedule": {"power": None}}, "schedule: poly needs power"),
        ({"schedule": {"warmup": 1}}, "schedule: warmup is 1.0"),
        ({"loss": {"class_weights": {"how": "inverse"}}}, "'loss.class_weights.how' is 'inverse'"),
        ({"loss": {"class_weights": {"c": 1}}}, "loss.class_weights: c is 1.0, it must be from 1.001 to 100"),
        (
            {"loss": {"class_weights": {"c": 1.0e300}}},
            "loss.class_weights: c is 1e.300, it must be from 1.001",
        ),
        ({"loss": {"cross_entropy": 0}}, "loss: one of cross_entropy, dice and lovasz"),
        ({"loss": {"ohem": 0}}, "loss: .*ohem above 0"),
        ({"swa": 1.5}, "'swa' is 1.5, it must be from 0 to 1"),
        ({"swa": 0.5, "ema": 0.9}, "and 0 where there is 'ema'"),
        ({"distillation": {"temperature": 0}}, "distillation: temperature is 0.0, it must be from 0.01 to"),
        ({"distillation": {"temperature": 1.0e30}}, "distillation: temperature is 1e.30, it must be from"),
        ({"distillation": {"weight": 0}}, "distillation: weight is 0.0, it must be above 0"),
        ({"distillation": {"scales": []}}, "distillation: scales must have one number or more"),
        ({"augmentation": {"aspect": 2}}, "augmentation: aspect must be from 0 to 1"),
        ({"mixing": {"paste": 2}}, "mixing: amplitude and paste are chances"),
        ({"augmentation": {"appearance": {"haze": 2}}}, "augmentation.appearance: haze must be from 0 to 1"),
        ({"keep": "first"}, "'keep' is 'first', it must be one of best, last"),
        (
            {"task": "classification", "label_set": "", "mixing": {"paste": 0.5}},
            "'mixing' pastes labels .* classification has none",
        ),
    ],
    ids=str,
)
def test_a_wrong_recipe_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    base, path = (
        write(tmp_path, RECIPE, "good"),
        write(tmp_path, {"base": "good.yaml", "name": "x", **change}),
    )
    load_recipe(base)
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_keys_and_files_are_named(tmp_path: Path) -> None:
    for key in ("name", "batch_size"):
        path = write(tmp_path, {k: v for k, v in RECIPE.items() if k != key})
        with pytest.raises(RecipeError, match=f"key '{key}' is missing; required are name, source"):
            load_recipe(path)
    with pytest.raises(
        RecipeError, match=r"unknown recipe 'nowhere'; there are enet_.*, enet_camvid, .*lednet_camvid"
    ):
        load_recipe("nowhere")
    with pytest.raises(RecipeError, match=r"recipe .*nowhere\.yaml does not exist"):
        load_recipe(tmp_path / "nowhere.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(RecipeError, match="is not a mapping"):
        load_recipe(tmp_path / "list.yaml")


def test_a_base_is_merged(tmp_path: Path) -> None:
    write(tmp_path, {**RECIPE, "aliases": ["t"], "options": {}}, "first")
    second = {
        "base": "first.yaml",
        "name": "second",
        "optimizer": {"learning_rate": 0.5},
        "network": "lednet",
    }
    write(tmp_path, second, "second")
    third = {"base": "second.yaml", "name": "third", "train": [{"dataset": "camvid", "split": "train"}]}
    recipe = load_recipe(write(tmp_path, third, "third"))
    assert (recipe.name, recipe.aliases, recipe.network) == ("third", (), "lednet")
    assert recipe.optimizer == Optimizer("adamw", 0.5, 0.01)
    assert recipe.train == ({"dataset": "camvid", "split": "train"},)
    write(tmp_path, {"base": "enet_camvid", "name": "ours"}, "named")
    assert load_recipe(tmp_path / "named.yaml").epochs == load_recipe("enet_camvid").epochs
    write(tmp_path, {**second, "base": "third.yaml"}, "second")
    with pytest.raises(RecipeError, match="is based on it"):
        load_recipe(tmp_path / "third.yaml")


STEPS, EPOCHS = 200, 40


def rates(scheduler: Any, optimizer: torch.optim.Optimizer) -> list[float]:
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def torchs(schedule: Schedule, optimizer: torch.optim.Optimizer) -> Any:
    if schedule.name == "one_cycle":
        return lr_scheduler.OneCycleLR(
            optimizer,
            1.0,
            STEPS + 1,
            pct_start=(schedule.warmup * STEPS + 1) / (STEPS + 1),
            cycle_momentum=False,
            final_div_factor=1e12,
        )
    if schedule.name == "poly":
        assert schedule.power is not None
        return lr_scheduler.PolynomialLR(optimizer, STEPS, schedule.power)
    if schedule.name == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    if schedule.name == "step":
        assert schedule.every_epochs is not None and schedule.decay is not None
        return lr_scheduler.StepLR(optimizer, schedule.every_epochs * STEPS // EPOCHS, schedule.decay)
    return lr_scheduler.ConstantLR(optimizer, 1.0)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule("one_cycle", warmup=0.25),
        Schedule("poly", power=0.9),
        Schedule("cosine"),
        Schedule("step", every_epochs=15, decay=0.1),
        Schedule("constant"),
    ],
    ids=lambda schedule: str(schedule.name),
)
def test_schedules_are_torchs(schedule: Schedule) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    expected = rates(torchs(schedule, optimizer), optimizer)
    assert [factor(schedule, step, STEPS, EPOCHS) for step in range(STEPS)] == pytest.approx(
        expected, abs=1e-9
    )


def test_a_warm_up_rises_on_a_line_and_the_end_stays() -> None:
    schedule = Schedule("poly", warmup=0.1, power=1.0)
    assert [factor(schedule, step, 100, 1) for step in (0, 5, 10, 55)] == pytest.approx([0.04, 0.52, 1, 0.5])
    for name in ("one_cycle", "cosine"):
        assert factor(Schedule(name), 150, 100, 1) == pytest.approx(0)
    assert factor(schedule, 150, 100, 1) == 0


def test_an_optimiser_is_the_recipes(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4))
    configured = configure(load_recipe(write(tmp_path, RECIPE)), network, 100)
    optimizer = configured["optimizer"]
    assert type(optimizer) is torch.optim.AdamW
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0]
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 4]
    for _ in range(50):
        optimizer.step()
        configured["lr_scheduler"]["scheduler"].step()
    assert configured["lr_scheduler"]["interval"] == "step"
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001 * 0.5**0.9)

    network[1].requires_grad_(False)
    all_decay = build_optimizer(Optimizer("adam", 1e-3, 0.1, decay_all=True, betas=(0.8, 0.9)), network)
    assert type(all_decay) is torch.optim.Adam
    assert [group["weight_decay"] for group in all_decay.param_groups] == [0.1, 0.1]
    assert all_decay.param_groups[0]["betas"] == (0.8, 0.9)
    assert [len(group["params"]) for group in all_decay.param_groups] == [1, 2]
    for name, kind in (("rmsprop", torch.optim.RMSprop), ("sgd", torch.optim.SGD)):
        made = build_optimizer(Optimizer(name, 0.1, momentum=0.7), network)  # type: ignore[arg-type]
        assert type(made) is kind
        assert made.param_groups[0]["momentum"] == 0.7


def test_a_shortened_training_keeps_the_shape_of_its_schedule() -> None:
    recipe = load_recipe("enet_camvid_encoder")
    short = recipe.fitted(30)
    assert (recipe.epochs, recipe.schedule.every_epochs) == (300, 100)
    for done in (0.0, 0.3, 0.34, 0.7, 0.99):
        whole = factor(recipe.schedule, int(done * 3000), 3000, recipe.epochs)
        assert factor(short.schedule, int(done * 3000), 3000, short.epochs) == whole
    assert load_recipe("lednet_camvid").fitted(3).schedule == load_recipe("lednet_camvid").schedule
