"""A training on a CPU takes as many threads as make its steps fastest."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")

import lightning  # noqa: E402
from support.small_training import here  # noqa: E402

from rt_segmentation.training.data import Share  # noqa: E402
from rt_segmentation.training.threads import (  # noqa: E402
    ROUNDS,
    WARM_UP,
    ThreadChoice,
    may_choose,
    numbers_of_threads,
)


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    """PyTorch has four threads in these tests, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Steps:
    """A clock on which a step takes as long as the number of threads says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step_s: dict[int, float]) -> None:
        self.taken: list[int] = []
        self._step_s, self._now_s = step_s, 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self._now_s)

    def take(self, choice: ThreadChoice, count: int) -> None:
        for _ in range(count):
            choice.on_train_batch_start()
            self.taken.append(torch.get_num_threads())
            self._now_s += self._step_s[self.taken[-1]]
            choice.on_train_batch_end()


def test_each_half_is_tried() -> None:
    assert numbers_of_threads(12) == [12, 6, 3, 1]
    assert numbers_of_threads(2) == [2, 1]
    assert numbers_of_threads(1) == [1]


def test_fewer_threads_are_taken_where_they_are_faster(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    choice, steps = ThreadChoice(True), Steps(monkeypatch, {4: 1.4, 2: 1.0, 1: 1.1})
    steps.take(choice, choice.steps + 3)
    assert steps.taken == [4] * WARM_UP + [4, 2, 1] * ROUNDS + [2] * 3
    assert choice.chosen == 2
    assert "1.00 s with 2 of 4 threads and 1.40 s with all" in caplog.text


def test_all_threads_stay_where_fewer_gain_next_to_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    choice, steps = ThreadChoice(True), Steps(monkeypatch, {4: 1.04, 2: 1.0, 1: 2.0})
    steps.take(choice, choice.steps + 1)
    assert choice.chosen == steps.taken[-1] == 4
    assert not caplog.text


def test_a_slow_step_among_the_others_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = ThreadChoice(True)
    step_s = {4: 1.0, 2: 1.8, 1: 3.0}
    steps = Steps(monkeypatch, step_s)
    steps.take(choice, WARM_UP)
    step_s[4] = 60.0
    steps.take(choice, 1)
    step_s[4] = 1.0
    steps.take(choice, choice.steps - WARM_UP - 1)
    assert choice.chosen == 4


def test_the_number_that_is_given_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    choice, steps = ThreadChoice(False), Steps(monkeypatch, {4: 1.4, 2: 1.0, 1: 1.1})
    assert choice.chosen == 4 and choice.steps == 0
    steps.take(choice, 3)
    assert steps.taken == [4] * 3


def test_what_resumes_takes_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum over other parts differs in its last bits."""
    first, steps = ThreadChoice(True), Steps(monkeypatch, {4: 1.4, 2: 1.0, 1: 1.1})
    steps.take(first, first.steps)
    torch.set_num_threads(4)
    resumed = ThreadChoice(True)
    resumed.load_state_dict(first.state_dict())
    assert resumed.chosen == torch.get_num_threads() == 2


def test_a_checkpoint_from_a_larger_machine_leaves_the_choice_open() -> None:
    torch.set_num_threads(2)
    choice = ThreadChoice(True)
    choice.load_state_dict({"threads": 16})
    assert choice.chosen is None and torch.get_num_threads() == 2


@pytest.mark.parametrize("count", [WARM_UP + 2, 100], ids=["before it is chosen", "afterwards"])
@pytest.mark.parametrize("end", [ThreadChoice.on_train_end, ThreadChoice.on_exception])
def test_a_training_leaves_all_threads_to_the_next_one(
    end: Callable[[ThreadChoice], None], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice, steps = ThreadChoice(True), Steps(monkeypatch, {4: 1.4, 2: 1.0, 1: 1.1})
    steps.take(choice, count)
    assert torch.get_num_threads() == 2
    end(choice)
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(
    ("changes", "compiled", "variable", "may"),
    [
        ({}, False, None, True),
        ({}, False, "2", False),
        ({}, True, None, False),
        ({"gpu": True}, False, None, False),
        ({"share": Share(0, 2)}, False, None, False),
    ],
)
def test_who_may_choose(
    changes: dict[str, Any], compiled: bool, variable: str | None, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert may_choose(replace(here(), **changes), compiled) is may


class OneWeight(lightning.LightningModule):
    """Learns from one number; steps take the threads that PyTorch has then."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.taken: list[int] = []

    def training_step(self, batch: Any, _: int) -> Any:
        self.taken.append(torch.get_num_threads())
        return self.layer(batch).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_lightning_calls_and_stores_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module, choice = OneWeight(), ThreadChoice(True)
    caplog.set_level(logging.WARNING)
    trainer = here().trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, callbacks=[choice]
    )
    trainer.fit(module, torch.utils.data.DataLoader(torch.ones(choice.steps + 2, 1)))
    assert module.taken[: choice.steps] == [4] * WARM_UP + [4, 2, 1] * ROUNDS
    assert module.taken[choice.steps :] == [choice.chosen] * 2 and torch.get_num_threads() == 4
    trainer.save_checkpoint(tmp_path / "checkpoint")
    states = torch.load(tmp_path / "checkpoint", weights_only=False)["callbacks"].values()
    assert {"threads": choice.chosen} in states
