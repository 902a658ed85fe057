"""Drives from names, stamps and folders; splits with no drive in two; what two splits share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from support.dataset_layouts import image, write

from rt_segmentation.cli import build_parser
from rt_segmentation.commands.dataset import main as run
from rt_segmentation.commands.options import OptionError
from rt_segmentation.data.dataset import DatasetError
from rt_segmentation.data.drives import assign, series_of, stamp_of
from rt_segmentation.data.folder import Folder
from rt_segmentation.data.leaks import DUPLICATE, Split, leaks, thumbnail
from rt_segmentation.labels import LabelClass, LabelSet

SITE = LabelSet("site", (LabelClass(0, "floor", (10, 20, 30)), LabelClass(1, "rack", (200, 0, 0))))


def split(root: Path, *options: str) -> None:
    run(build_parser().parse_args(["dataset", "split", "--data-root", str(root), *options]))


def add(folder: Path, labels: Path, *names: str) -> None:
    for name in names:
        write(folder / f"{name}.png", image(len(name)))
        write(labels / f"{name}.png", np.zeros((48, 64), np.uint8))


def drives_of(root: Path, name: str) -> set[str]:
    return set(yaml.safe_load((root / "splits.yaml").read_text())["splits"][name]["drives"])


@pytest.mark.parametrize(
    "name, stamp",
    [
        ("1700000000123456789", 1700000000.123456789),
        ("cam_1700000000_123456789", 1700000000.123456789),
        ("run7__camera__1700000000.123456789", 1700000000.123456789),
        ("1700000000123", 1700000000.123),
        ("x-1700000000", 1700000000.0),
        ("2023-11-14T22-13-20_front", 1700000000.0),
        ("20231114_221320.5", 1700000000.5),
        ("0001TP_006690", None),
        ("0016E5_07959", None),
        ("img_20231399_000000", None),
        ("000000000012", None),
        ("0000000123", None),
    ],
)
def test_stamps_in_names(name: str, stamp: float | None) -> None:
    found = stamp_of(name)
    assert found == (None if stamp is None else pytest.approx(stamp, abs=1e-3))


def test_series_of_names() -> None:
    assert series_of("0001TP_006690") == ("0001TP", 6690)
    assert series_of("aachen_000000_000019_leftImg8bit") == ("aachen_000000", 19)
    assert series_of("door") == ("door", None)


def test_no_drive_is_in_two_splits_and_the_shares_are_near(tmp_path: Path) -> None:
    for drive, count in zip("abcdefgh", (9, 8, 7, 6, 5, 5, 5, 5)):
        names = [f"{drive}_{i:03d}" for i in range(count)]
        add(tmp_path / "images", tmp_path / "labels", *names)
    split(tmp_path, "--share", "train=0.7", "--share", "val=0.2", "--share", "test=0.1")
    content = yaml.safe_load((tmp_path / "splits.yaml").read_text())
    assert content["by"] == "name" and content["seed"] == 0
    seen: set[str] = set()
    for name, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        dataset = Folder(tmp_path, name, SITE)
        names_of = set(dataset.names())
        assert not names_of & seen and {n.split("_")[0] for n in names_of} == drives_of(tmp_path, name)
        assert len(dataset) == content["splits"][name]["frames"] == pytest.approx(share * 50, abs=1)
        assert dataset[0].labels.shape == (48, 64)
        seen |= names_of
    assert len(seen) == 50
    first = (tmp_path / "val.txt").read_text()
    with pytest.raises(OptionError, match=r"train\.txt.* there already; give --overwrite"):
        split(tmp_path)
    for seed, is_same in (("0", True), ("1", False)):
        shares = ("--share", "train=0.7", "--share", "val=0.2", "--share", "test=0.1")
        split(tmp_path, *shares, "--seed", seed, "--overwrite")
        assert ((tmp_path / "val.txt").read_text() == first) == is_same


def test_folders_are_drives(tmp_path: Path) -> None:
    for drive in ("monday", "tuesday", "friday"):
        add(tmp_path / drive / "images", tmp_path / drive / "labels", "0001", "0002")
    split(tmp_path, "--share", "train=0.6", "--share", "val=0.4")
    assert drives_of(tmp_path, "train") | drives_of(tmp_path, "val") == {"monday", "tuesday", "friday"}
    dataset = Folder(tmp_path, "train", SITE)
    assert {name.split("/")[0] for name in dataset.names()} == drives_of(tmp_path, "train")
    # The drives are splits of their own as well.
    assert len(Folder(tmp_path, "monday", SITE)) == 2


def test_lists_that_are_no_split_now_are_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for drive in "abcd":
        add(tmp_path / "images", tmp_path / "labels", *(f"{drive}_{i}" for i in range(3)))
    split(tmp_path, "--share", "train=0.5", "--share", "val=0.25", "--share", "test=0.25")
    (tmp_path / "notes.txt").write_text("mine")
    assert "removed" not in capsys.readouterr().out
    split(tmp_path, "--overwrite")
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["notes.txt", "train.txt", "val.txt"]
    assert "removed, as no split now: " in capsys.readouterr().out


def test_a_folders_name_may_begin_as_a_comment(tmp_path: Path) -> None:
    for drive in ("#1", "#2"):
        add(tmp_path / drive / "images", tmp_path / drive / "labels", "0001", "0002")
    split(tmp_path, "--share", "train=0.5", "--share", "val=0.5")
    for name in ("train", "val"):
        (drive,) = drives_of(tmp_path, name)
        assert Folder(tmp_path, name, SITE).names() == [f"{drive}/0001", f"{drive}/0002"]


def test_a_name_that_no_list_can_hold_is_refused(tmp_path: Path) -> None:
    add(tmp_path / "images", tmp_path / "labels", "a_1", "a_2", "b\t1", "b\t2")
    with pytest.raises(DatasetError, match=r"'images/b\\t1.png' cannot be in a list"):
        split(tmp_path, "--pattern", "^(.)")


def test_folders_of_one_name_in_both_layouts_are_one_drive(tmp_path: Path) -> None:
    for drive in "ab":
        add(tmp_path / drive / "images", tmp_path / drive / "labels", "0001", "0002")
    add(tmp_path / "images/a", tmp_path / "labels/a", "0001", "0003")
    split(tmp_path, "--share", "train=0.6", "--share", "val=0.4")
    names = {name: Folder(tmp_path, name, SITE).names() for name in ("train", "val")}
    assert sorted(names.values(), key=len) == [
        ["b/0001", "b/0002"],
        ["a/images/0001.png", "a/0002", "images/a/0001.png", "a/0003"],
    ]


def test_pauses_end_drives(tmp_path: Path) -> None:
    names = [f"cam_{1700000000 + s}_{n:09d}" for s in (0, 5, 14, 100, 109, 300) for n in (0, 500)]
    add(tmp_path / "images", tmp_path / "labels", *names)
    split(tmp_path, "--share", "train=0.5", "--share", "val=0.5")
    content = yaml.safe_load((tmp_path / "splits.yaml").read_text())
    assert content["by"] == "stamp, a pause of more than 10 s"
    assert drives_of(tmp_path, "train") | drives_of(tmp_path, "val") == {"001", "002", "003"}
    split(tmp_path, "--by", "stamp", "--gap-s", "7", "--overwrite")
    assert drives_of(tmp_path, "train") | drives_of(tmp_path, "val") == {f"00{i}" for i in range(1, 6)}


def test_a_pattern_must_find_a_drive_in_each_name(tmp_path: Path) -> None:
    add(tmp_path / "images", tmp_path / "labels", "a1_x", "a2_x", "b1_x")
    split(tmp_path, "--pattern", "^([ab])")
    assert drives_of(tmp_path, "train") == {"a"} and drives_of(tmp_path, "val") == {"b"}
    with pytest.raises(DatasetError, match="pattern 'a' finds no drive in the name 'b1_x'"):
        split(tmp_path, "--pattern", "a", "--overwrite")
    with pytest.raises(OptionError, match=r"--pattern '\(' is no regular expression"):
        split(tmp_path, "--pattern", "(", "--overwrite")


def test_what_cannot_be_split_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no labelled images"):
        split(tmp_path)
    add(tmp_path / "images", tmp_path / "labels", "a_1", "a_2")
    with pytest.raises(DatasetError, match=r"there is 1 drive \(a\) for 2 splits \(train, val\)"):
        split(tmp_path)
    with pytest.raises(DatasetError, match="2 of 2 names have no stamp, as 'a_1'"):
        split(tmp_path, "--by", "stamp")
    with pytest.raises(OptionError, match=r"of train, val are 1\.2 in all, not 1"):
        split(tmp_path, "--share", "train=0.9", "--share", "val=0.3")
    with pytest.raises(OptionError, match=r"--share '\.\./x=0\.5' should be SPLIT=X"):
        split(tmp_path, "--share", "../x=0.5")
    with pytest.raises(OptionError, match="--gap-s is 0; it must be above 0"):
        split(tmp_path, "--gap-s", "0")
    write(tmp_path / "images" / "b_1.png", image(0))
    write(tmp_path / "labels" / "b_1.png", np.zeros((48, 64), np.uint8))
    (tmp_path / "images" / "a_2.png").unlink()
    (tmp_path / "labels" / "a_2.png").unlink()
    with pytest.raises(DatasetError, match="each of 2 frames is a drive of its own, as 'a'"):
        split(tmp_path)
    (tmp_path / "labels" / "b_1.png").unlink()
    with pytest.raises(DatasetError, match=r"lacks 1 label: b_1\.png"):
        split(tmp_path)
    assert not list(tmp_path.glob("*.txt"))


def test_a_list_may_have_an_editors_byte_order_mark(tmp_path: Path) -> None:
    add(tmp_path / "images", tmp_path / "labels", "a", "b")
    lines = "images/a.png\tlabels/a.png\r\nimages/b.png\tlabels/b.png\r\n"
    (tmp_path / "val.txt").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert [pair.name for pair in Folder(tmp_path, "val", SITE).pairs] == ["a", "b"]


@pytest.mark.parametrize(
    "line, said",
    [
        ("images/a.png labels/a.png", "is not IMAGE, a tab, LABELS"),
        ("../a.png\tlabels/a.png", "'../a.png' is outside"),
        ("/etc/a.png\tlabels/a.png", "'/etc/a.png' is outside"),
        ("images/b.png\tlabels/a.png", "1 file that does not exist: images/b.png"),
        ("images/a.png\tlabels/a.png\nimages/a.png\tlabels/a.png", "line 2: 'images/a.png' is named twice"),
        ("# nothing", "names no frames"),
    ],
)
def test_a_wrong_list_is_named(line: str, said: str, tmp_path: Path) -> None:
    add(tmp_path / "images", tmp_path / "labels", "a")
    (tmp_path / "val.txt").write_text(line)
    with pytest.raises(DatasetError, match=said):
        Folder(tmp_path, "val", SITE)


def test_many_drives_are_assigned() -> None:
    sizes = {f"d{i}": 1 + i % 7 for i in range(1500)}
    chosen = assign(sizes, {"train": 0.8, "val": 0.2}, 0)
    of_val = sum(sizes[drive] for drive, name in chosen.items() if name == "val")
    assert set(chosen) == set(sizes) and of_val / sum(sizes.values()) == pytest.approx(0.2, abs=0.01)


def scene(seed: int) -> np.ndarray:
    return cv2.resize(image(seed, 16, 9), (320, 180), interpolation=cv2.INTER_CUBIC)


def test_copies_are_found_and_others_are_not() -> None:
    original = scene(1)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", original, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
    for copy in (
        cv2.resize(original, (160, 90), interpolation=cv2.INTER_AREA),
        np.asarray(jpeg, np.uint8),
        (original * 0.7 + 20).astype(np.uint8),
    ):
        assert thumbnail(copy) @ thumbnail(original) > DUPLICATE
    val, train = Split("val"), Split("train")
    val.add("mine", original)
    val.add("black", np.zeros_like(original))
    train.add("other", scene(2))
    train.add("dark", np.zeros_like(original))
    assert leaks(val, train) == []
    train.add("copied", np.asarray(jpeg, np.uint8))
    (said,) = leaks(val, train)
    assert said.startswith("1 of 2 frames of val have near duplicates in train, as mine of copied (")


def test_names_and_stamps_of_one_drive_are_found() -> None:
    def of(name: str, *frames: str) -> Split:
        return Split(name, list(frames))

    (said,) = leaks(of("val", "a_002", "b_001"), of("train", "a_001", "a_003", "c_001"))
    assert said == (
        "1 frames of val have names of a drive that train has too:"
        " 'a' (1 in val, 2 in train, 1 of them between those)"
    )
    # All frames have one name: numbers behind those of train say nothing, numbers between them do.
    assert leaks(of("val", "img_5", "img_6"), of("train", "img_1", "img_2")) == []
    assert "1 of them between" in leaks(of("val", "img_2"), of("train", "img_1", "img_3"))[0]
    (said,) = leaks(of("val", "c_1700000003"), of("train", "c_1700000001", "c_1700000100"))
    assert said.startswith("1 frames of val were taken within 10 s of a frame of train")
    assert said.endswith("c_1700000003 and c_1700000001 (2.00 s)")
    assert leaks(of("val", "c_1700000050"), of("train", "c_1700000001", "c_1700000100")) == []


def stats(root: Path, **changes: Any) -> argparse.Namespace:
    (root / "site.yaml").write_text("classes:\n  - {id: 0, name: floor, color: [10, 20, 30]}\n")
    words = ["dataset", "stats", "--dataset", "folder", "--data-root", str(root), "--split", "val"]
    words += ["--option", f"label_set={root / 'site.yaml'}", "--across", changes.get("across", "train")]
    return build_parser().parse_args([*words, "--json", str(root / "s.json")])


def test_stats_tells_what_splits_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, frames in (("val", {"a_2": 1, "x": 2}), ("train", {"a_1": 3, "y": 1})):
        for frame, seed in frames.items():
            write(tmp_path / name / "images" / f"{frame}.png", scene(seed))
            write(tmp_path / name / "labels" / f"{frame}.png", np.zeros((180, 320), np.uint8))
    run(stats(tmp_path))
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("leak: ")]
    assert len(told) == 2
    assert "near duplicates in train, as a_2 of y" in told[0] and "names of a drive" in told[1]
    assert f'"{told[0].removeprefix("leak: ")}"' in (tmp_path / "s.json").read_text()
    with pytest.raises(DatasetError, match="--across names 'val', the split itself"):
        run(stats(tmp_path, across="val"))
