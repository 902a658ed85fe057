"""The semantic cloud node's parameters."""

from __future__ import annotations

import pytest

from rt_segmentation.ros.cloud_parameters import PARAMETERS, class_ids
from rt_segmentation.ros.parameters import ParameterError, accept

TABLE = {parameter.name: parameter for parameter in PARAMETERS}


def test_classes_go_by_id_and_by_name() -> None:
    assert class_ids([], "", "keep_classes") == frozenset()
    assert class_ids(["0", "255"], "", "keep_classes") == {0, 255}
    assert class_ids(["tree", "Sky", "3"], "camvid11", "keep_classes") == {5, 0, 3}
    # A mask of groups has their ids.
    assert class_ids(["nature", "traversable"], "camvid11/driving", "drop_classes") == {3, 0}


@pytest.mark.parametrize(
    ("entries", "label_set", "sentence"),
    [
        (["256"], "", "'keep_classes' holds '256', it must be an id from 0 to 255"),
        (["-1"], "", "'keep_classes' holds '-1'"),
        (["tree"], "", "set label_set for names"),
        (["tre"], "camvid11", "label set 'camvid11' has sky, building, pole"),
        (["Tree"], "camvid11/driving", "label set 'camvid11/driving' has traversable, dynamic"),
        ([], "camvid11/drivin", "'label_set': .*drivin"),
        ([], "camvid99", "'label_set': unknown label set 'camvid99'"),
    ],
)
def test_classes_that_are_none_are_refused(entries: list[str], label_set: str, sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        class_ids(entries, label_set, "keep_classes")


def test_a_sensor_s_place_is_seven_numbers() -> None:
    pose = TABLE["sensor_to_camera"]
    assert accept(pose, [1, 2, 3, 0, 0, 0, 1]) == [1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0]
    with pytest.raises(ParameterError, match=r"give x, y, z \[m\] and a quaternion"):
        accept(pose, [1.0, 2.0])
    with pytest.raises(ParameterError, match="its quaternion is all zero"):
        accept(pose, [1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0])
