"""Every module can be imported, on whatever Python and NumPy: what runs then is seen by no type checker."""

from __future__ import annotations

import importlib
import pkgutil

import rt_segmentation

OPTIONAL = {
    *("ament_index_python", "diagnostic_msgs", "geometry_msgs", "lifecycle_msgs", "rcl_interfaces", "rclpy"),
    *("sensor_msgs", "std_msgs", "std_srvs"),
    *("jinja2", "lightning", "matplotlib", "onnx", "onnxruntime", "openvino", "rosbags", "tensorrt", "torch"),
}
"""What may be missing."""


def test_every_module_is_imported_or_needs_what_is_optional() -> None:
    names = [module.name for module in pkgutil.walk_packages(rt_segmentation.__path__, "rt_segmentation.")]
    assert len(names) > 250
    imported = 0
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as missing:
            assert missing.name in OPTIONAL, name
        else:
            imported += 1
    assert imported > 150
