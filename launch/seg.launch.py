"""Segment a camera: ros2 launch rt_segmentation seg.launch.py model:=lednet image:=/camera/image_raw."""

import os

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from rt_segmentation.inference.engines import ENGINES
from rt_segmentation.ros.environment import transport_environment
from rt_segmentation.ros.segmentation_parameters import PARAMETERS

SHARE = get_package_share_directory("rt_segmentation")
NOT_GIVEN = ""
RESPAWN_DELAY_S = 2.0
CHOICES = {p.name: p.choices for p in PARAMETERS}
KEPT = "Empty: as in the params file."
ARGUMENTS = (
    ("model", NOT_GIVEN, f"Model: linknet, enet, lednet, or the path of a manifest (.yaml). {KEPT}", None),
    ("engine", NOT_GIVEN, f"What executes the model. {KEPT}", ("auto", *ENGINES)),
    ("precision", NOT_GIVEN, f"Arithmetic of the engine. {KEPT}", CHOICES["precision"]),
    ("image", "image", "The camera's image topic; camera_info is taken from beside it.", None),
    ("image_transport", NOT_GIVEN, f"How the camera sends images. {KEPT}", CHOICES["image_transport"]),
    (
        "camera",
        NOT_GIVEN,
        "Start a camera_node, too: street, a folder of images, or a video. Empty: none.",
        None,
    ),
    ("namespace", NOT_GIVEN, "Namespace of the nodes.", None),
    ("params_file", NOT_GIVEN, "A params file of yours, over the package's config/seg.yaml.", None),
    ("use_sim_time", NOT_GIVEN, f"Take the time from /clock. {KEPT}", ("true", "false")),
    (
        "respawn",
        "false",
        "Start a node again, two seconds after it ended by itself: after a crash, or by its watchdog_s.",
        ("true", "false"),
    ),
    ("rviz", "false", "Open RViz with camera, label, colour and overlay.", ("true", "false")),
    ("log_level", "info", "How much the nodes log.", ("debug", "info", "warn", "error", "fatal")),
)


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The nodes, once the arguments are known."""
    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    overrides: dict[str, object] = {
        name: given[name]
        for name in ("model", "engine", "precision", "image_transport")
        if given[name] != NOT_GIVEN
    }
    if given["use_sim_time"] != NOT_GIVEN:
        overrides["use_sim_time"] = given["use_sim_time"] == "true"
    files = [os.path.join(SHARE, "config", "seg.yaml")]
    if given["params_file"] != NOT_GIVEN:
        path = os.path.abspath(os.path.expanduser(given["params_file"]))
        if not os.path.isfile(path):
            raise RuntimeError(f"params_file {path} does not exist")
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
        nodes.append(Node(executable="camera_node", name="camera_node", parameters=[camera], **common))
    if given["rviz"] == "true":
        nodes.append(rviz(image, given["namespace"]))
    return nodes


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
