"""The generated files are what the tables of parameters say now."""

from __future__ import annotations

import pytest
import yaml

from rt_segmentation.commands.parameters import documentation, params_file
from rt_segmentation.resources import share_dir
from rt_segmentation.ros.tables import NODES


def test_the_params_file_is_up_to_date() -> None:
    content = (share_dir() / "config" / "seg.yaml").read_text()
    assert content == params_file(), "run: rt_seg parameters yaml > config/seg.yaml"
    declared = yaml.safe_load(content)["/**"]["ros__parameters"]
    # What two nodes have under one name they have with one default.
    for parameters in NODES.values():
        assert {p.name: declared[p.name] for p in parameters} == {p.name: p.default for p in parameters}


def test_the_documentation_is_up_to_date() -> None:
    path = share_dir() / "docs" / "parameters.md"
    if not path.is_file():
        pytest.skip("docs are in the source tree only, they are not installed")
    assert path.read_text() == documentation(), "run: rt_seg parameters markdown > docs/parameters.md"
