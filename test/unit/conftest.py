"""Fixtures of the tests without ROS."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture()
def with_curves() -> None:
    """For a test that looks at the picture of a training's curves."""


@pytest.fixture(autouse=True)
def without_curves(request: pytest.FixtureRequest) -> Iterator[None]:
    """That picture takes longer than the trainings here, and is drawn where a test looks at it."""
    history = sys.modules.get("rt_segmentation.training.history")
    # With a patch of its own: the fixture `monkeypatch` would outlive the fixtures of a file's own.
    with pytest.MonkeyPatch.context() as patch:
        if history is not None and "with_curves" not in request.fixturenames:
            patch.setattr(history, "draw_curves", lambda *_: None)
        yield
