"""`rt_seg bag sample`: which frames are chosen and why, and that their files are what the bag has."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")

from support.street_bags import BEGIN_NS, TYPES, image, street, street_bag, write_bag

from rt_segmentation.bags import messages
from rt_segmentation.bags.frames import COMPRESSED_IMAGE, IMAGE
from rt_segmentation.bags.reading import Message
from rt_segmentation.bags.writing import BagWriter
from rt_segmentation.cli import main
from rt_segmentation.data.dataset import read_rgb
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.models import ModelManifest
from rt_segmentation.sampling import writing
from rt_segmentation.sampling.choosing import (
    Candidate,
    Limits,
    choose_random,
    choose_uniform,
    choose_worth,
)
from rt_segmentation.sampling.measures import UNCERTAIN, Measured
from rt_segmentation.sampling.storing import image_file

SECOND = 1_000_000_000


def candidate(moment_s: float, features: Sequence[float], uncertain: float = 0.5, bag: int = 0) -> Candidate:
    measured = Measured(np.array(features, np.float32), np.array([0.5, 0.5]), {UNCERTAIN: uncertain})
    moment_ns = round(moment_s * SECOND)
    return Candidate(bag, int(moment_s), moment_ns, moment_ns, moment_ns, measured)


def none(size: int = 2) -> np.ndarray:
    return np.zeros((0, size), np.float32)


def test_frames_are_chosen_by_worth_times_distance() -> None:
    # Two places: at the first the model is least sure, and twice is not worth more than once.
    rng = np.random.default_rng(0)
    here = [candidate(i, (0.001 * i, 0), 0.9 - 0.01 * i) for i in range(10)]
    there = [candidate(20 + i, (1 + 0.001 * i, 0), 0.6 - 0.01 * i) for i in range(10)]
    everyone = [*here, *there]
    rng.shuffle(everyone)
    chosen = choose_worth(everyone, Limits(2, 9, 0), ("a", "b"), none())
    assert [c.candidate.moment_ns for c in chosen] == [0, 20 * SECOND]
    assert np.isnan(chosen[0].distance) and chosen[1].distance > 0.9
    assert "mean confidence 0.10 (less sure than 98% of the frames)" in chosen[0].reason
    # What is known already is worth nothing.
    chosen = choose_worth(everyone, Limits(1, 9, 0), ("a", "b"), np.array([(0, 0)], np.float32))
    assert chosen[0].candidate.moment_ns >= 20 * SECOND
    assert "unlike the training data" in chosen[0].reason


def test_a_choice_keeps_to_its_limits() -> None:
    frames = [candidate(0.5 * i, (i, 0), bag=i // 20) for i in range(60)]
    limits = Limits(12, 5, 2 * SECOND)
    for chosen in (
        choose_worth(frames, limits, ("a", "b"), none()),
        choose_random(frames, limits, 3),
        choose_uniform(frames, limits),
    ):
        found = [c.candidate for c in chosen]
        assert len(found) == 12
        for bag in range(3):
            moments = sorted(c.moment_ns for c in found if c.bag == bag)
            assert 1 <= len(moments) <= 5
            assert min(np.diff(moments), default=limits.apart_ns) >= limits.apart_ns
    assert choose_worth([], limits, ("a", "b"), none()) == choose_random([], limits, 1) == []
    # A bag of 10 s has no more than 5 frames that are 2 s apart.
    assert len(choose_random(frames[:20], Limits(12, 12, 2 * SECOND), 0)) <= 5


def test_random_is_a_function_of_its_seed() -> None:
    frames = [candidate(i, (i, 0)) for i in range(50)]

    def numbers(seed: int) -> list[int]:
        return [c.candidate.number for c in choose_random(frames, Limits(9, 9, 0), seed)]

    assert numbers(1) == numbers(1) != numbers(2)
    assert [c.candidate.number for c in choose_uniform(frames, Limits(5, 9, 0))] == [0, 10, 20, 30, 40]


def test_uniform_takes_what_there_is() -> None:
    def chosen(
        frames: list[Candidate], count: int, apart_s: float = 1, per_bag: int = 99
    ) -> list[list[float]]:
        found = choose_uniform(frames, Limits(count, per_bag, round(apart_s * SECOND)))
        moments = [(c.candidate.bag, c.candidate.moment_ns / SECOND) for c in found]
        return [
            [moment for of, moment in moments if of == bag]
            for bag in range(3)
            if any(of == bag for of, _ in moments)
        ]

    # 10 s at 4 Hz: all that are a second apart, not every second one of those.
    assert chosen([candidate(0.25 * i, (i, 0)) for i in range(40)], 12) == [list(range(10))]
    # A clock that was set back.
    assert chosen([candidate(0.25 * (i % 20), (i, 0)) for i in range(40)], 5) == [[0, 1, 2, 3, 4]]
    # What a short bag cannot give, the others do; a budget is kept.
    short = [candidate(i, (i, 0), bag=i // 4) for i in range(8)] + [
        candidate(i, (i, 0), bag=2) for i in range(40)
    ]
    assert [len(bag) for bag in chosen(short, 24)] == [4, 4, 16]
    assert [len(bag) for bag in chosen(short, 24, per_bag=6)] == [4, 4, 6]
    assert [len(bag) for bag in chosen(short, 7)] == [3, 2, 2]
    assert chosen([], 3) == []


def compressed(rgb: np.ndarray, kind: str) -> Any:
    return messages.compressed_image(TYPES, messages.header(TYPES, BEGIN_NS, "camera"), rgb, kind)


def stored(kind: str, content: Any) -> tuple[bytes, str, str]:
    return image_file(Message("t", kind, 0, content))


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))


def test_files_are_copies_or_lossless() -> None:
    rgb = street(0)[0]
    for kind, suffix in (("jpeg", ".jpg"), ("png", ".png")):
        content = compressed(rgb, kind)
        assert stored(COMPRESSED_IMAGE, content) == (bytes(content.data), suffix, "as recorded")
    data, suffix, how = stored(IMAGE, image(rgb, 0))
    assert (suffix, how) == (".png", "PNG of the same pixels")
    assert np.array_equal(decoded(data)[..., ::-1], rgb)
    data, _, how = stored(IMAGE, image(rgb[..., 1], 0))
    assert np.array_equal(decoded(data), rgb[..., 1])


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_stay(order: str) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (48, 64, 3)).astype(f"{order}u2")
    fields: dict[str, Any] = {"is_bigendian": int(order == ">"), "width": 64, "height": 48}
    raw = np.frombuffer(deep.tobytes(), np.uint8)
    content = image(np.zeros((48, 64), np.uint8), 0, data=raw, encoding="rgb16", step=64 * 6, **fields)
    data, _, how = stored(IMAGE, content)
    assert how == "PNG of the same pixels" and np.array_equal(decoded(data)[..., ::-1], deep)
    raw = np.frombuffer(deep[..., 0].tobytes(), np.uint8)
    content = image(np.zeros((48, 64), np.uint8), 0, data=raw, encoding="mono16", step=128, **fields)
    assert np.array_equal(decoded(stored(IMAGE, content)[0]), deep[..., 0])
    content = image(np.zeros((48, 64), np.uint8), 0, data=raw, encoding="bayer_rggb16", step=128, **fields)
    data, _, how = stored(IMAGE, content)
    assert how == "PNG of 16 bits, made of bayer_rggb16"
    assert decoded(data).shape == (48, 64, 3) and decoded(data).dtype == np.uint16


def test_what_a_reader_would_show_otherwise_is_made_anew() -> None:
    rgb = street(0)[0]
    jpeg = bytes(compressed(rgb, "jpeg").data)
    # An EXIF orientation of 3: turned by 180 degrees.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    content = compressed(rgb, "jpeg")
    content.data = np.frombuffer(turned, np.uint8)
    data, suffix, _ = stored(COMPRESSED_IMAGE, content)
    assert suffix == ".png" and np.array_equal(decoded(data), decoded(jpeg))
    mosaic = compressed(rgb[..., 1], "png")
    mosaic.format = "bayer_rggb8; png compressed "
    data, suffix, how = stored(COMPRESSED_IMAGE, mosaic)
    assert (suffix, how) == (".png", "PNG, made of bayer_rggb8") and decoded(data).shape == rgb.shape
    content.data = content.data[:200]
    with pytest.raises(ImageError):
        stored(COMPRESSED_IMAGE, content)


def write_street(path: Path, frames: int, change: Any = lambda i, rgb: rgb, period_s: float = 0.5) -> Path:
    """A bag of JPEGs on /front/compressed, each with another picture than those before it."""
    with BagWriter(path) as writer:
        for i in range(frames):
            stamp = BEGIN_NS + round(i * period_s * SECOND)
            rgb = change(i, np.roll(street(i % 12)[0], 3 * (i // 12), 1))
            content = messages.compressed_image(
                writer.types, messages.header(writer.types, stamp, "camera"), rgb, "jpeg"
            )
            writer.write("/front/compressed", COMPRESSED_IMAGE, stamp + 1, content)
    return path


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "frames.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_worth_labelling_end_to_end(
    tmp_path: Path, small_model: ModelManifest, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {3: 0, 4: 255, 7: 90}

    def change(i: int, rgb: np.ndarray) -> np.ndarray:
        return np.full_like(rgb, bad[i]) if i in bad else rgb

    bags = [write_street(tmp_path / "night", 11, change), street_bag(tmp_path / "day", 6, period_ns=SECOND)]
    model = str(small_model.path)
    command = ["bag", "sample", *map(str, bags), "--model", model, "--engine", "torch"]
    command += ["--count", "4", "--rate", "0"]
    out = tmp_path / "site" / "train"
    # The day's bag has labels too.
    assert not main([*command, "--out", str(out), "--other", model])
    said = capsys.readouterr()
    assert "4 of 14 usable frames, 17 looked at" in said.out
    assert "1 black, 1 white, 1 without contrast" in said.err
    rows = table(out)
    assert [row["order"] for row in rows] == list("1234") and all(row["reason"] for row in rows)
    assert {row["disagrees"] for row in rows} == {"0.0000"}
    assert [Path(row["bag"]).name for row in rows].count("night") == 2
    for row in rows:
        bag, topic, stamp = Path(row["file"]).stem.split("__")
        assert (bag, topic) in (("night", "front-compressed"), ("day", "camera")) and stamp == row["stamp_ns"]
        assert row["stored"] == ("as recorded" if bag == "night" else "PNG of the same pixels")
        assert read_rgb(out / row["file"]).shape == (120, 160, 3)
        if bag == "day":
            number = (int(stamp) - BEGIN_NS) // SECOND
            assert np.array_equal(read_rgb(out / row["file"]), street(number % 12)[0])
    assert len(list((out / "images").iterdir())) == 4 and (out / "contact_sheet.jpg").stat().st_size > 5000
    about = json.loads((out / "sample.json").read_text())
    assert about["models"][0]["sha256"] == small_model.sha256 and about["frames"] == 4
    assert not [path for path in (tmp_path / "site").iterdir() if path != out]

    # Nothing is overwritten, and what is labelled is not chosen again.
    assert main([*command, "--out", str(out)]) == 2
    assert "is not empty, and nothing in it is overwritten" in capsys.readouterr().err
    again = tmp_path / "again"
    assert not main([*command, "--out", str(again), "--known", str(out / "images")])
    assert not {row["file"] for row in table(again)} & {row["file"] for row in rows}


def test_baselines_need_no_model(tmp_path: Path) -> None:
    bag = write_street(tmp_path / "b.a g", 20)
    found = {}
    for name, options in (("r1", "random --seed 1"), ("r2", "random --seed 1"), ("u", "uniform")):
        out = tmp_path / name
        main(["bag", "sample", str(bag), "--out", str(out), "--count", "5", "--strategy", *options.split()])
        found[name] = [row["file"] for row in table(out)]
    assert found["r1"] == found["r2"] != found["u"]
    assert [int(Path(f).stem.split("__")[-1]) for f in found["u"]] == [
        BEGIN_NS + 2 * i * SECOND for i in range(5)
    ]
    assert found["u"][0].startswith("images/b__front-compressed__")


def test_stamps_that_do_not_tell_images_apart(tmp_path: Path) -> None:
    bag = write_bag(
        tmp_path / "same",
        [("camera", BEGIN_NS + i * SECOND, image(street(i)[0], 0)) for i in range(6)],
    )
    out = tmp_path / "out"
    assert not main(["bag", "sample", str(bag), "--out", str(out), "--count", "3", "--strategy", "uniform"])
    stems = [Path(row["file"]).stem for row in table(out)]
    assert stems == [f"same__camera__{BEGIN_NS + i * SECOND}" for i in (0, 2, 4)]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = write_street(tmp_path / "bag", 6)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(writing, "write_picture", full)
    out = tmp_path / "deep" / "out"
    assert main(["bag", "sample", str(bag), "--out", str(out), "--strategy", "random"]) == 2
    assert not list((tmp_path / "deep").iterdir())


def test_bags_may_have_any_name(
    tmp_path: Path, small_model: ModelManifest, capsys: pytest.CaptureFixture[str]
) -> None:
    # Names that are not UTF-8, and as long as a name can be in bytes.
    names = os.fsdecode(b"caf\xe9"), "街" * 80, "a" + "é" * 120
    bags = [write_street(tmp_path / "bag", 3).rename(tmp_path / name) for name in names]
    known = tmp_path / os.fsdecode(b"kn\xf6wn")
    known.mkdir()
    cv2.imwrite(str(tmp_path / "known.png"), street(40)[0])
    (tmp_path / "known.png").rename(known / "known.png")
    out = tmp_path / "out"
    command = ["bag", "sample", *map(str, bags), "--out", str(out), "--known", str(known)]
    assert not main([*command, "--model", str(small_model.path), "--engine", "torch", "--count", "6"])
    rows = table(out)
    assert {Path(row["bag"]).name for row in rows} == {r"caf\xe9", *names[1:]}
    # Cut between two characters.
    stems = {Path(row["file"]).name.split("__")[0] for row in rows}
    assert stems == {"caf", "街" * 26, "a" + "é" * 39}
    assert all((out / row["file"]).is_file() for row in rows)
    about = json.loads((out / "sample.json").read_text(encoding="utf-8"))
    assert Path(about["known"]).name == r"kn\xf6wn"
    assert [Path(bag["path"]).name for bag in about["bags"]] == [r"caf\xe9", *names[1:]]


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        # None is so far from another one.
        (["--apart", "1e300"], 2),
        # After the first frame none is due.
        (["--rate", "1e-300"], 2),
        (["--rate", "0", "--apart", "0", "--count", f"1{400 * '0'}", "--per-bag", f"1{400 * '0'}"], 6),
        (["--rate", "0", "--apart", "0", "--count", f"1{400 * '0'}"], 6),
    ],
)
@pytest.mark.parametrize("strategy", ["random", "uniform"])
def test_numbers_may_be_as_large_as_can_be(
    options: list[str], frames: int, strategy: str, tmp_path: Path
) -> None:
    bags = [str(write_street(tmp_path / name, 3)) for name in ("a", "b")]
    out = tmp_path / "out"
    assert not main(["bag", "sample", *bags, "--out", str(out), "--strategy", strategy, *options])
    assert len(table(out)) == frames


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "--strategy worth needs --model"),
        (["--strategy", "random", "--known", "x"], "--known is for --strategy worth"),
        (["--strategy", "random", "--count", "0"], "--count is 0, it must be 1 or more"),
        (["--strategy", "random", "--per-bag", "-1"], "--per-bag is -1, it must be 1 or more"),
        (["--strategy", "random", "--apart", "nan"], "--apart is nan, it must be 0 or more [s]"),
        (["--strategy", "random", "--rate", "-1"], "--rate is -1, it must be 0 or more [Hz]"),
        (["--strategy", "random", "--image-topic", "/x"], "the bag has no topic /x"),
    ],
)
def test_wrong_options_have_their_sentence(
    tmp_path: Path, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_street(tmp_path / "bag", 2)
    assert main(["bag", "sample", str(bag), "--out", str(tmp_path / "out"), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bag_that_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_street(tmp_path / "bag", 6, lambda i, rgb: rgb if i else np.zeros_like(rgb))
    gone, out = tmp_path / "gone", tmp_path / "out"
    command = ["bag", "sample", str(gone), str(bag), "--out", str(out), "--strategy", "random"]
    assert main([*command, "--count", "50"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("left out: ") and "gone" in said.err and "1 black" in said.err
    assert said.err.endswith("rt_seg bag: 1 of 2 bags could not be read and are left out, as said above\n")
    assert "fewer than 50" in said.out and len(table(out)) >= 2
    assert main(["bag", "sample", str(gone), "--out", str(tmp_path / "o"), "--strategy", "random"]) == 2
