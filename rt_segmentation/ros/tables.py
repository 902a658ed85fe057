"""The parameters of all nodes of the package, which may share one params file."""

from __future__ import annotations

from rt_segmentation.ros.camera_parameters import PARAMETERS as CAMERA
from rt_segmentation.ros.cloud_parameters import PARAMETERS as CLOUD
from rt_segmentation.ros.ground_parameters import PARAMETERS as GROUND
from rt_segmentation.ros.parameters import Parameter
from rt_segmentation.ros.segmentation_parameters import PARAMETERS as SEGMENTATION

NODES: dict[str, tuple[Parameter, ...]] = {
    "segmentation_node": SEGMENTATION,
    "camera_node": CAMERA,
    "semantic_cloud_node": CLOUD,
    "ground_grid_node": GROUND,
}
NAMES = frozenset(parameter.name for parameters in NODES.values() for parameter in parameters)
