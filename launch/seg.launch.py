"""Segment a camera: ros2 launch rt_segmentation seg.launch.py model:=lednet image:=/camera/image_raw."""

import difflib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from rt_segmentation.inference.engines import ENGINES
from rt_segmentation.ros.environment import transport_environment
from rt_segmentation.ros.params_files import advice, reaches, sections
from rt_segmentation.ros.segmentation_parameters import PARAMETERS

SHARE = get_package_share_directory("rt_segmentation")
NOT_GIVEN = ""
RESPAWN_DELAY_S = 2.0
CHOICES = {p.name: p.choices for p in PARAMETERS}
# What ros2 launch and launch themselves read.
OF_LAUNCH = ("launch-prefix", "launch-prefix-filter", "emulate_tty", "sigterm_timeout", "sigkill_timeout")
KEPT = "Empty: the value of the params file."
ARGUMENTS = (
    ("model", NOT_GIVEN, f"Model: linknet, enet, lednet, or the path of a manifest (.yaml). {KEPT}", None),
    ("engine", NOT_GIVEN, f"Engine that executes the model. {KEPT}", ("auto", *ENGINES)),
    ("precision", NOT_GIVEN, f"Precision of the engine's arithmetic. {KEPT}", CHOICES["precision"]),
    ("image", "image", "Image topic of the camera; camera_info is expected in the same namespace.", None),
    (
        "cameras",
        NOT_GIVEN,
        "Names of several cameras, as [front,rear]: images on front/image and rear/image, labels on"
        f" segmentation_node/front/label and so on, with one network. {KEPT}",
        None,
    ),
    ("image_transport", NOT_GIVEN, f"Transport of the camera's images. {KEPT}", CHOICES["image_transport"]),
    (
        "camera",
        NOT_GIVEN,
        "Also start a camera_node: street, a folder of images, or a video. Empty: no camera node.",
        None,
    ),
    (
        "cloud",
        NOT_GIVEN,
        "Also start a semantic_cloud_node: labelled points of a depth image or of a cloud. Empty: none.",
        ("depth", "points"),
    ),
    ("depth", "depth", "The topic of the depth image, registered to the camera, for cloud:=depth.", None),
    ("points", "points", "The topic of the camera's or lidar's point cloud, for cloud:=points.", None),
    (
        "ground",
        "false",
        "Also start a ground_grid_node: where the masks show ground, on the plane under the camera.",
        ("true", "false"),
    ),
    ("namespace", NOT_GIVEN, "Namespace of the nodes.", None),
    (
        "params_file",
        NOT_GIVEN,
        "Your params file; its values replace those of the package's config/seg.yaml.",
        None,
    ),
    ("use_sim_time", NOT_GIVEN, f"Use the time of /clock. {KEPT}", ("true", "false")),
    (
        "respawn",
        "false",
        "Restart a node two seconds after its process has ended: after a crash, or by watchdog_s.",
        ("true", "false"),
    ),
    ("rviz", "false", "Open RViz with camera image, labels, colours, overlay and cloud.", ("true", "false")),
    ("log_level", "info", "Log level of the nodes.", ("debug", "info", "warn", "error", "fatal")),
)


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The nodes, once the arguments are known."""
    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    refuse_unknown(context.argv)
    overrides: dict[str, object] = {
        name: given[name]
        for name in ("model", "engine", "precision", "image_transport")
        if given[name] != NOT_GIVEN
    }
    if given["cameras"] != NOT_GIVEN:
        overrides["cameras"] = camera_names(given["cameras"])
    if given["use_sim_time"] != NOT_GIVEN:
        overrides["use_sim_time"] = given["use_sim_time"] == "true"
    files = [os.path.join(SHARE, "config", "seg.yaml")]
    if given["params_file"] != NOT_GIVEN:
        path = os.path.abspath(os.path.expanduser(given["params_file"]))
        if not os.path.isfile(path):
            raise RuntimeError(f"params_file {path} does not exist")
        above = make_namespace_absolute(
            prefix_namespace(context.launch_configurations.get("ros_namespace"), given["namespace"])
        )
        others = (
            ("camera", "camera_node"),
            ("cloud", "semantic_cloud_node"),
            ("ground", "ground_grid_node"),
        )
        started = [name for argument, name in others if given[argument] not in (NOT_GIVEN, "false")]
        names = ["segmentation_node", *started]
        refuse_unused(path, [f"{(above or '').rstrip('/')}/{name}" for name in names])
        files.append(path)
    image = given["image"]
    info = image.rsplit("/", 1)[0] + "/camera_info" if "/" in image else "camera_info"
    remappings = [("image", image), ("camera_info", info)]
    common = {
        "package": "rt_segmentation",
        "namespace": given["namespace"],
        "remappings": remappings,
        "output": "screen",
        "ros_arguments": ["--log-level", given["log_level"]],
        "respawn": given["respawn"] == "true",
        "respawn_delay": RESPAWN_DELAY_S,
    }
    nodes: list[LaunchDescriptionEntity] = [
        Node(
            executable="segmentation_node", name="segmentation_node", parameters=[*files, overrides], **common
        )
    ]
    if given["camera"] != NOT_GIVEN:
        shared = ("use_sim_time", "image_transport")
        camera = {
            "source": given["camera"],
            **{name: overrides[name] for name in shared if name in overrides},
        }
        nodes.append(
            Node(executable="camera_node", name="camera_node", parameters=[*files, camera], **common)
        )
    clock = {name: overrides[name] for name in ("use_sim_time",) if name in overrides}
    if given["cloud"] != NOT_GIVEN:
        outputs = ("label", "confidence", "color", "camera_info")
        moved = [(name, f"segmentation_node/{name}") for name in outputs]
        moved += [(name, given[name]) for name in ("depth", "points")]
        nodes.append(
            Node(
                executable="semantic_cloud_node",
                name="semantic_cloud_node",
                parameters=[*files, {"geometry": given["cloud"], **clock}],
                **{**common, "remappings": moved},
            )
        )
    if given["ground"] == "true":
        outputs = ("label", "camera_info", "label_info")
        nodes.append(
            Node(
                executable="ground_grid_node",
                name="ground_grid_node",
                parameters=[*files, clock],
                **{**common, "remappings": [(name, f"segmentation_node/{name}") for name in outputs]},
            )
        )
    if given["rviz"] == "true":
        nodes.append(rviz(image, given["namespace"]))
    return nodes


def camera_names(text: str) -> list[str]:
    """The names in a list such as [front,rear]."""
    inside = text.strip().removeprefix("[").removesuffix("]")
    names = [name.strip(" '\"") for name in inside.split(",")]
    # ROS has no type for an empty list: this is the list of no names.
    return [name for name in names if name] or [""]


def refuse_unknown(arguments: Iterable[str]) -> None:
    """Stop at an argument that is not declared; launch ignores it.

    Where another launch file includes this one, the command line has that file's arguments.
    """
    if not any(os.path.basename(word) == os.path.basename(__file__) for word in sys.argv):
        return
    known = [name for name, *_ in ARGUMENTS]
    for name in (argument.partition(":=")[0] for argument in arguments):
        if name not in known and name not in OF_LAUNCH:
            nearest = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean '{nearest[0]}'?" if nearest else f"there are {', '.join(known)}"
            raise RuntimeError(f"unknown argument '{name}'; {meant}")


def refuse_unused(path: str, nodes: list[str]) -> None:
    """Stop at a params file whose sections are all for other nodes than those that are started."""
    names = sections(Path(path))
    if names and not any(reaches(name, node) for name in names for node in nodes):
        nearest = max(names, key=lambda name: name.endswith("/segmentation_node"))
        raise RuntimeError(f"params_file {path} would not be used: {advice(nearest, nodes[0])}")


def rviz(image: str, namespace: str) -> Node:
    """RViz with the package's view, its topics moved to where the nodes have them."""
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        distro = os.environ.get("ROS_DISTRO", "DISTRO")
        raise RuntimeError(f"rviz:=true needs RViz: sudo apt install ros-{distro}-rviz2") from None
    prefix = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
    outputs = ("label", "color", "overlay")
    remappings = [("/image", image if image.startswith("/") else f"{prefix}/{image}")]
    remappings += [(f"/segmentation_node/{o}", f"{prefix}/segmentation_node/{o}") for o in outputs]
    remappings.append(("/semantic_cloud_node/points", f"{prefix}/semantic_cloud_node/points"))
    view = os.path.join(SHARE, "config", "rviz", "seg.rviz")
    return Node(package="rviz2", executable="rviz2", arguments=["-d", view], remappings=remappings)


def generate_launch_description() -> LaunchDescription:
    """All arguments, then the nodes."""
    declared = [
        DeclareLaunchArgument(
            name,
            default_value=default,
            description=text,
            choices=None if choices is None else [*([NOT_GIVEN] if default == NOT_GIVEN else []), *choices],
        )
        for name, default, text, choices in ARGUMENTS
    ]
    environment = [SetEnvironmentVariable(key, value) for key, value in transport_environment().items()]
    return LaunchDescription([*declared, *environment, OpaqueFunction(function=start)])
