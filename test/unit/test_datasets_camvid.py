"""CamVid as it was published: 32 colours, merged to 11 classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.dataset_layouts import blocks, image, write

from rt_segmentation.data.camvid import CamVid, split_of
from rt_segmentation.data.dataset import DatasetError
from rt_segmentation.labels import load_label_set

TRAIN = ("0001TP_006690", "0006R0_f00930", "0016E5_00390")
VAL = ("0016E5_07959", "0016E5_08159")
TEST = ("0001TP_008550", "Seq05VD_f00000")


def make_original(root: Path) -> dict[str, np.ndarray]:
    palette = load_label_set("camvid32").palette()
    labels = {name: blocks(i, range(32)) for i, name in enumerate((*TRAIN, *VAL, *TEST))}
    for i, (name, label) in enumerate(labels.items()):
        write(root / "701_StillsRaw_full" / f"{name}.png", image(i))
        write(root / "LabeledApproved_full" / f"{name}_L.png", palette[label])
    return labels


def test_the_sequences_make_the_splits(tmp_path: Path) -> None:
    make_original(tmp_path)
    for split, names in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        assert tuple(pair.name for pair in CamVid(tmp_path, split).pairs) == names


def test_lists_of_names_make_the_splits_where_there_are_any(tmp_path: Path) -> None:
    make_original(tmp_path)
    (tmp_path / "val.txt").write_text("0006R0_f00930.png\n\nSeq05VD_f00000\n", encoding="utf-8-sig")
    assert [pair.name for pair in CamVid(tmp_path, "val").pairs] == ["0006R0_f00930", "Seq05VD_f00000"]
    (tmp_path / "val.txt").write_text("0006R0_f00930\n0006R0_f00001\n0006R0_f00002\n")
    with pytest.raises(
        DatasetError, match=r"names 2 frames that are not there: 0006R0_f00001, 0006R0_f00002"
    ):
        CamVid(tmp_path, "val")


def test_published_names_are_in_their_splits(shared_data: Path) -> None:
    for split in ("train", "val"):
        for path in (shared_data / "camvid" / split / "images").iterdir():
            assert split_of(path.stem) == split


def test_a_strange_name_has_no_split() -> None:
    with pytest.raises(DatasetError, match="'street_1' is no frame of CamVid's"):
        split_of("street_1")


def test_original_classes_and_their_merging(tmp_path: Path) -> None:
    labels = make_original(tmp_path)
    unmerged = CamVid(tmp_path, "val", "camvid32")
    np.testing.assert_array_equal(unmerged[0].labels, labels[VAL[0]])
    assert unmerged.ignored_ids == {unmerged.label_set.names.index("Void")}
    merged = CamVid(tmp_path, "val")[0].labels
    original = load_label_set("camvid32").names
    new = load_label_set("camvid11").names
    pairs = {"LaneMkgsDriv": "Road", "Wall": "Building", "Child": "Pedestrian", "Truck_Bus": "Car"}
    pairs |= {"TrafficLight": "SignSymbol", "ParkingBlock": "Pavement", "TrafficCone": "Pole", "Sky": "Sky"}
    for old, merged_name in pairs.items():
        assert (merged[labels[VAL[0]] == original.index(old)] == new.index(merged_name)).all()
    np.testing.assert_array_equal(merged == 255, labels[VAL[0]] == original.index("Void"))


def test_an_unknown_colour_is_counted(tmp_path: Path) -> None:
    make_original(tmp_path)
    wrong = np.zeros((48, 64, 3), np.uint8)
    wrong[:2, :3] = (1, 2, 3)
    wrong[5, 5] = (9, 9, 9)
    write(tmp_path / "LabeledApproved_full" / f"{VAL[0]}_L.png", wrong)
    with pytest.raises(DatasetError) as caught:
        CamVid(tmp_path, "val")[0]
    assert f"{VAL[0]}_L.png has 2 colours of no class: (1, 2, 3) (6 pixels), (9, 9, 9) (1 pixels)" in str(
        caught.value
    )


def test_what_a_layout_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="camvid32 needs the original colours"):
        CamVid(tmp_path, "val", "camvid32")
    with pytest.raises(DatasetError, match="camvid11 and camvid32, not 'camvid12'"):
        CamVid(tmp_path, "val", "camvid12")
    make_original(tmp_path)
    with pytest.raises(DatasetError, match="no split 'night'; there are train, val, test"):
        CamVid(tmp_path, "night")
