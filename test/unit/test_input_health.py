"""Whether a camera's picture is still one: frozen, black, overexposed, blurred, slower than usual."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from rt_segmentation.runtime.input_health import InputHealth, InputLimits


class Camera:
    """Sends pictures of a scene that moves, on a clock of its own."""

    def __init__(self, health: InputHealth, now: list[float]) -> None:
        self.health, self.now, self.frame = health, now, 0
        self.view = "all"
        rng = np.random.default_rng(7)
        large = cv2.resize(rng.integers(40, 190, (3, 20, 3), np.uint8), (900, 120))
        self.scene = large + rng.integers(0, 60, large.shape, np.uint8)

    def picture(self) -> np.ndarray:
        left = self.frame * 3 % 700
        picture: np.ndarray = self.scene[:, left : left + 160].copy()
        return picture

    def run(
        self,
        seconds: float,
        hz: float = 10.0,
        change: Callable[[np.ndarray], np.ndarray] = lambda picture: picture,
    ) -> list[str]:
        for _ in range(round(seconds * hz)):
            self.now[0] += 1 / hz
            self.frame += 1
            self.health.arrived()
            self.health.look(change(self.picture()), self.frame, self.view)
        return self.health.problems()


@pytest.fixture
def camera() -> Camera:
    now = [100.0]
    return Camera(InputHealth(clock=lambda: now[0]), now)


def test_a_camera_that_works_is_quiet(camera: Camera) -> None:
    for _ in range(20):
        assert camera.run(2.0) == []


def test_nothing_is_said_before_anything_came() -> None:
    assert InputHealth().problems() == [] and not InputHealth().has_looked


def test_it_is_known_whether_pictures_were_looked_at(camera: Camera) -> None:
    camera.run(1.0)
    assert camera.health.has_looked
    camera.now[0] += 2.5
    camera.health.arrived()
    assert camera.health.problems() == [] and not camera.health.has_looked


def test_the_same_picture_under_new_stamps_is_frozen(camera: Camera) -> None:
    assert camera.run(10) == []
    still = camera.picture()
    assert camera.run(4, change=lambda _: still) == []
    (said,) = camera.run(4, change=lambda _: still)
    assert said == "the camera has sent the same picture for 8 s, under new stamps"
    assert camera.run(1) == []


def test_a_duplicate_under_its_own_stamp_is_not_frozen(camera: Camera) -> None:
    camera.run(10)
    for _ in range(100):
        camera.now[0] += 0.1
        camera.health.arrived()
        camera.health.look(camera.picture(), camera.frame)
    assert camera.health.problems() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda picture: picture // 20, "the images are black: 100% of their pixels are"),
        (
            lambda picture: np.maximum(picture, 252),
            "the images are overexposed: 100% of their pixels are white",
        ),
        (lambda picture: cv2.GaussianBlur(picture, (0, 0), 9), "the images are blurred: they have"),
    ],
)
def test_what_spoils_pictures_is_named_while_it_lasts(
    camera: Camera, change: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    camera.run(10)
    assert camera.run(1, change=change) == []
    for _ in range(30):
        problems = camera.run(2, change=change)
        assert any(problem.startswith(said) for problem in problems), problems
    assert camera.run(3) == []


def test_one_sharp_picture_among_blurred_ones_is_enough(camera: Camera) -> None:
    camera.run(10)
    for _ in range(5):
        camera.run(1.5, change=lambda picture: cv2.GaussianBlur(picture, (0, 0), 9))
        assert camera.run(0.1) == []


def test_another_view_has_another_usual_sharpness(camera: Camera) -> None:
    def nearer(picture: np.ndarray) -> np.ndarray:
        return cv2.resize(picture[40:55, 50:74], (160, 100), interpolation=cv2.INTER_LINEAR)

    camera.run(10)
    # Without the change of the view it is a fault.
    assert camera.run(4, change=nearer)
    camera.run(4)
    camera.view = "roi"
    assert camera.run(4, change=nearer) == camera.run(10, change=nearer) == []
    assert camera.run(4, change=lambda picture: cv2.GaussianBlur(nearer(picture), (0, 0), 9))


def test_half_the_rate_is_said_and_a_pause_is_not(camera: Camera) -> None:
    camera.run(20)
    assert camera.run(4, hz=5) == ["images come at 5.0 Hz; 9.8 Hz is usual"]
    assert camera.run(4) == []
    camera.now[0] += 60
    assert camera.run(4) == []
    assert camera.run(4, hz=7.5) == []


def test_a_new_rate_becomes_the_usual_one_in_the_end(camera: Camera) -> None:
    camera.run(20)
    assert camera.run(30, hz=5)
    assert camera.run(1200, hz=5) == []


def test_limits_switch_each_off() -> None:
    now = [0.0]
    limits = InputLimits(0, 1, 1, 0, 0)
    camera = Camera(InputHealth(limits, lambda: now[0]), now)
    camera.run(20)
    assert camera.run(20, hz=2, change=lambda picture: picture * 0) == []
    assert camera.run(20, hz=2, change=lambda picture: picture * 0 + 255) == []
    assert camera.run(20, hz=2, change=lambda picture: cv2.GaussianBlur(picture, (0, 0), 9)) == []


def test_a_gray_wall_is_neither_blurred_nor_black(camera: Camera) -> None:
    camera.run(10)
    rng = np.random.default_rng(1)
    assert camera.run(10, change=lambda p: rng.integers(118, 122, p.shape, np.uint8)) == []


@pytest.mark.parametrize("shape", [(32, 32, 3), (1, 40, 3), (41, 1, 3), (1080, 1920, 3)])
def test_any_size_can_be_looked_at(shape: tuple[int, int, int]) -> None:
    health = InputHealth()
    health.look(np.zeros(shape, np.uint8), 1)
    assert health.problems() == ["the images are black: 100% of their pixels are"]
