"""The semantic cloud node's parameters."""

from __future__ import annotations

import pytest

from rt_segmentation.labels import load_label_set
from rt_segmentation.ros.cloud_parameters import PARAMETERS, class_ids, named_classes, range_limits
from rt_segmentation.ros.ground_parameters import PARAMETERS as GROUND
from rt_segmentation.ros.parameters import Parameter, ParameterError, accept

TABLE = {parameter.name: parameter for parameter in PARAMETERS}
GROUND_CLASSES = next(parameter for parameter in GROUND if parameter.name == "ground_classes")


CAMVID = dict(enumerate(load_label_set("camvid11").names))


def test_classes_go_by_id_and_by_name() -> None:
    def ids(entries: list[str], classes: dict[int, str] | None) -> frozenset[int]:
        return class_ids(entries, classes, "", "keep_classes")

    assert ids([], {}) == frozenset()
    assert ids(["0", "255"], {}) == {0, 255}
    assert ids(["tree", "Sky", "3"], CAMVID) == {5, 0, 3}
    # Names that are not known yet are left out; two classes may have one.
    assert ids(["tree", "3"], None) == {3}
    assert ids(["road"], {0: "road", 1: "sky", 2: "Road"}) == {0, 2}


@pytest.mark.parametrize(
    ("entries", "classes", "sentence"),
    [
        (
            ["256"],
            {},
            "'keep_classes' holds '256', it must be an id from 0 to 255 or a class's name; it has x",
        ),
        (["256"], None, "'keep_classes' holds '256'"),
        (["-1"], {}, "'keep_classes' holds '-1'"),
        (["tre"], CAMVID, "'keep_classes' holds 'tre'"),
    ],
)
def test_classes_that_are_none_are_refused(
    entries: list[str], classes: dict[int, str] | None, sentence: str
) -> None:
    with pytest.raises(ParameterError, match=sentence):
        class_ids(entries, classes, "it has x", "keep_classes")


def test_ranges_without_a_point_between_them_are_refused() -> None:
    assert range_limits({"min_range_m": 5.0, "max_range_m": 0.0}) == (5.0, 0.0)
    with pytest.raises(
        ParameterError, match="'max_range_m' is 2, it must be 0 or above min_range_m, which is 5"
    ):
        range_limits({"min_range_m": 5.0, "max_range_m": 2.0})


def test_a_label_set_is_one_of_the_package_s_or_groups_of_one() -> None:
    groups = named_classes("camvid11/driving")
    assert named_classes("") is None and groups is not None and groups.names[0] == "traversable"
    for name in ("camvid11/drivin", "camvid99"):
        with pytest.raises(ParameterError, match=f"'label_set': .*{name.rpartition('/')[2]}"):
            named_classes(name)


@pytest.mark.parametrize("parameter", [TABLE["keep_classes"], TABLE["drop_classes"], GROUND_CLASSES])
def test_ids_need_no_quotes(parameter: Parameter) -> None:
    assert accept(parameter, [0, 3]) == ["0", "3"] and accept(parameter, ["0", "tree"]) == ["0", "tree"]
    for bad in ([0.5], [True], 3):
        with pytest.raises(ParameterError, match=f"parameter '{parameter.name}'"):
            accept(parameter, bad)


def test_a_sensor_s_place_is_seven_numbers() -> None:
    pose = TABLE["sensor_to_camera"]
    assert accept(pose, [1, 2, 3, 0, 0, 0, 1]) == [1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0]
    with pytest.raises(ParameterError, match=r"give x, y, z \[m\] and a quaternion"):
        accept(pose, [1.0, 2.0])
    with pytest.raises(ParameterError, match="its quaternion is all zero"):
        accept(pose, [1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0])
    with pytest.raises(ParameterError, match="its quaternion is all zero"):
        accept(pose, [1.0, 2.0, 3.0, 1e-200, 0.0, 0.0, 0.0])
