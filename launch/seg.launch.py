"""Segment a camera: ros2 launch rt_segmentation seg.launch.py model:=lednet image:=/camera/image_raw."""

import difflib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from rt_segmentation.inference.engines import ENGINES
from rt_segmentation.ros.environment import transport_environment
from rt_segmentation.ros.params_files import advice, overriding, reaches, sections, value_for, yaml_problem
from rt_segmentation.ros.segmentation_parameters import PARAMETERS, check_cameras
from rt_segmentation.ros.spelling import topic_problem

SHARE = get_package_share_directory("rt_segmentation")
NOT_GIVEN = ""
NONE = "none"
RESPAWN_DELAY_S = 2.0
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
SHOWN = ("label", "color", "overlay", "legend")
CHOICES = {p.name: p.choices for p in PARAMETERS}
# What ros2 launch and launch themselves read.
OF_LAUNCH = ("launch-prefix", "launch-prefix-filter", "emulate_tty", "sigterm_timeout", "sigkill_timeout")
KEPT = "Empty: the value of the params file."
ARGUMENTS = (
    ("model", NOT_GIVEN, f"Model: linknet, enet, lednet, or the path of a manifest (.yaml). {KEPT}", None),
    ("engine", NOT_GIVEN, f"Engine that executes the model. {KEPT}", ("auto", *ENGINES)),
    ("precision", NOT_GIVEN, f"Precision of the engine's arithmetic. {KEPT}", CHOICES["precision"]),
    (
        "image",
        "image",
        "Image topic of the camera; camera_info is expected in the same namespace. With several cameras a"
        " name below each camera's: image_raw is front/image_raw.",
        None,
    ),
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
        "Also start a camera_node, for each camera: street, a folder of images, or a video. Empty: none.",
        None,
    ),
    (
        "cloud",
        NONE,
        "Also start a semantic_cloud_node, for each camera: labelled points of a depth image or of a cloud.",
        (NONE, "depth", "points"),
    ),
    (
        "depth",
        "depth",
        "Topic of the depth image, registered to the camera, for cloud:=depth; with several cameras a name"
        " below each camera's.",
        None,
    ),
    (
        "points",
        "points",
        "Topic of the camera's or lidar's point cloud, for cloud:=points; with several cameras a name below"
        " each camera's.",
        None,
    ),
    (
        "ground",
        "false",
        "Also start a ground_grid_node, for each camera: where the masks show ground, on the plane under it:"
        " true or false.",
        None,
    ),
    ("namespace", NOT_GIVEN, "Namespace of the nodes.", None),
    (
        "params_file",
        NOT_GIVEN,
        "Your params file; its values replace those of the package's config/seg.yaml.",
        None,
    ),
    ("use_sim_time", NOT_GIVEN, f"Use the time of /clock: true or false. {KEPT}", None),
    (
        "respawn",
        "false",
        "Restart a node two seconds after its process has ended, after a crash or by watchdog_s: true or"
        " false.",
        None,
    ),
    (
        "rviz",
        "false",
        "Open RViz with camera image, overlay, labels, colours, legend and cloud: true or false.",
        None,
    ),
    (
        "fixed_frame",
        NOT_GIVEN,
        "RViz's fixed frame, which tf must join with the camera's for the cloud to be seen. Empty: base_link,"
        " or the frame of the camera that camera:= starts.",
        None,
    ),
    ("log_level", "info", f"Log level of the nodes: {', '.join(LOG_LEVELS)}.", None),
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
    if given["use_sim_time"] != NOT_GIVEN:
        overrides["use_sim_time"] = boolean(given, "use_sim_time")
    respawn, ground, shows_rviz = (boolean(given, name) for name in ("respawn", "ground", "rviz"))
    log_level = given["log_level"].lower()
    if log_level not in LOG_LEVELS:
        raise RuntimeError(f"log_level is '{given['log_level']}', it must be one of {', '.join(LOG_LEVELS)}")
    # The same namespace with and without a slash at its end.
    namespace = given["namespace"].rstrip("/") or given["namespace"][:1]
    above = (
        make_namespace_absolute(
            prefix_namespace(context.launch_configurations.get("ros_namespace"), namespace)
        )
        or ""
    ).rstrip("/")
    path = NOT_GIVEN
    if given["params_file"] != NOT_GIVEN:
        path = os.path.abspath(os.path.expanduser(given["params_file"]))
        if not os.path.isfile(path):
            problem = "is no file" if os.path.exists(path) else "does not exist"
            raise RuntimeError(f"params_file {path} {problem}")
    names = [f"{above}/segmentation_node"]
    cameras = cameras_of(path, names[0])
    if given["cameras"] != NOT_GIVEN:
        cameras = overrides["cameras"] = camera_names(given["cameras"])
    others = (
        (given["camera"] != NOT_GIVEN, "camera_node"),
        (given["cloud"] != NONE, "semantic_cloud_node"),
        (ground, "ground_grid_node"),
    )
    for started, name in others:
        if started:
            names += ["/".join((above, *filter(None, (camera, name)))) for camera in cameras]
    files = [os.path.join(SHARE, "config", "seg.yaml")]
    if path != NOT_GIVEN:
        refuse_unused(path, names)
        refuse_overriding(path, names[0], overrides)
        files.append(path)
    for name in ("image", "depth", "points"):
        if problem := topic_problem(given[name]):
            raise RuntimeError(f"{name} is '{given[name]}', {problem}")
    refuse_shared(given, "image", above, cameras)
    if given["cloud"] != NONE:
        refuse_shared(given, given["cloud"], above, cameras)
    common = {
        "package": "rt_segmentation",
        "output": "screen",
        "ros_arguments": ["--log-level", log_level],
        "respawn": respawn,
        "respawn_delay": RESPAWN_DELAY_S,
        # Of these nodes alone: a robot's launch file that includes this one starts others, too.
        "additional_env": transport_environment(),
    }
    clock = {name: overrides[name] for name in ("use_sim_time",) if name in overrides}
    nodes: list[LaunchDescriptionEntity] = [
        Node(
            executable="segmentation_node",
            name="segmentation_node",
            namespace=namespace,
            parameters=[*files, overrides],
            remappings=[remap for camera in cameras for remap in image_topics(given["image"], camera)],
            **common,
        )
    ]
    for camera in cameras:
        of_camera = f"{namespace.rstrip('/')}/{camera}" if namespace and camera else namespace or camera
        if given["camera"] != NOT_GIVEN:
            shared = ("use_sim_time", "image_transport")
            settings = {
                "source": given["camera"],
                **{name: overrides[name] for name in shared if name in overrides},
                # Each has a frame of its own.
                **({"frame_id": camera} if camera else {}),
            }
            nodes.append(
                Node(
                    executable="camera_node",
                    name="camera_node",
                    namespace=of_camera,
                    parameters=[*files, settings],
                    remappings=image_topics(given["image"]),
                    **common,
                )
            )
        if given["cloud"] != NONE:
            nodes.append(
                Node(
                    executable="semantic_cloud_node",
                    name="semantic_cloud_node",
                    namespace=of_camera,
                    parameters=[*files, {"geometry": given["cloud"], **clock}],
                    remappings=cloud_topics(given, above, camera),
                    **common,
                )
            )
        if ground:
            nodes.append(
                Node(
                    executable="ground_grid_node",
                    name="ground_grid_node",
                    namespace=of_camera,
                    parameters=[*files, clock],
                    remappings=mask_topics(above, camera, ("label", "camera_info", "label_info")),
                    **common,
                )
            )
    if shows_rviz:
        usual_frame = (cameras[0] or "camera") if given["camera"] != NOT_GIVEN else "base_link"
        nodes.append(rviz(given["image"], above, cameras[0], given["fixed_frame"] or usual_frame, clock))
    return nodes


def boolean(given: dict[str, str], name: str) -> bool:
    """The value of a switch; launch files in Python and XML write it in different ways."""
    if given[name].lower() not in BOOLEANS:
        raise RuntimeError(f"{name} is '{given[name]}', it must be true or false")
    return BOOLEANS[given[name].lower()]


def refuse_shared(given: dict[str, str], name: str, above: str, cameras: list[str]) -> None:
    """Stop where one topic is given for several cameras."""
    if len(cameras) > 1 and given[name].startswith("/"):
        raise RuntimeError(
            f"{name}:={given[name]} is one topic for {len(cameras)} cameras; give a name without the first "
            f"slash: {name}:={name} is {above}/{cameras[0]}/{name} for '{cameras[0]}'"
        )


def below(camera: str, topic: str) -> str:
    """A topic of a camera: absolute, or below the camera's name."""
    return topic if topic.startswith("/") or not camera else f"{camera}/{topic}"


def image_topics(image: str, camera: str = "") -> list[tuple[str, str]]:
    """Where a node finds or publishes the images of a camera, and its camera_info beside them.

    Args:
        image: the argument.
        camera: the name that the node gives it; empty for a node in the camera's namespace.
    """
    topic = below(camera, image)
    info = "/".join([*topic.split("/")[:-1], "camera_info"])
    return [(below(camera, "image"), topic), (below(camera, "camera_info"), info)]


def cloud_topics(given: dict[str, str], above: str, camera: str) -> list[tuple[str, str]]:
    """Where a cloud node finds the masks of its camera, and what it joins them with.

    Args:
        given: the arguments.
        above: the absolute namespace of the segmentation node.
        camera: whose masks, empty where there is only one.
    """
    moved = mask_topics(above, camera, ("label", "confidence", "color", "camera_info", "label_info"))
    return [*moved, *((geometry, given[geometry]) for geometry in ("depth", "points"))]


def mask_topics(above: str, camera: str, outputs: Iterable[str]) -> list[tuple[str, str]]:
    """Where a node finds what the segmentation node publishes for a camera; see `cloud_topics`."""
    masks = "/".join(filter(None, (f"{above}/segmentation_node", camera)))
    return [(output, f"{masks}/{output}") for output in outputs]


def camera_names(text: str) -> list[str]:
    """The names in a list such as [front,rear]."""
    inside = text.strip().removeprefix("[").removesuffix("]")
    names = [name for name in (name.strip(" '\"") for name in inside.split(",")) if name]
    if problem := check_cameras(names):
        raise RuntimeError(f"cameras is '{text}': {problem}")
    # ROS has no type for an empty list: this is the list of no names.
    return names or [""]


def cameras_of(path: str, node: str) -> list[str]:
    """The names of the cameras that a params file gives the segmentation node."""
    found = value_for(Path(path), node, "cameras") if path != NOT_GIVEN else None
    # What is no list of names the segmentation node refuses.
    names = isinstance(found, list) and all(isinstance(name, str) for name in found)
    return list(found) if names and found else [""]


def refuse_unknown(arguments: Iterable[str]) -> None:
    """Stop at an argument that is not declared; launch ignores it.

    Where another launch file includes this one, the command line has that file's arguments.
    """
    if not any(is_this_file(*words) for words in zip(sys.argv, sys.argv[1:])):
        return
    known = [name for name, *_ in ARGUMENTS]
    for name in (argument.partition(":=")[0] for argument in arguments):
        if name not in known and name not in OF_LAUNCH:
            nearest = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean '{nearest[0]}'?" if nearest else f"there are {', '.join(known)}"
            raise RuntimeError(f"unknown argument '{name}'; {meant}")


def is_this_file(package: str, name: str) -> bool:
    """Whether two words of a command line are this launch file, by its package or by its path."""
    if package == "rt_segmentation" and name == os.path.basename(__file__):
        return True
    return os.path.exists(name) and os.path.samefile(name, __file__)


def refuse_overriding(path: str, node: str, overrides: dict[str, object]) -> None:
    """Stop where a params file would beat an argument: rcl orders sections, not files."""
    for name in overrides:
        section = overriding(Path(path), node, name)
        if section:
            raise RuntimeError(
                f"params_file {path} sets {name} in its section '{section}', which beats the argument {name}"
                f" as it stands after the section '{node}'; put it before that section"
            )


def refuse_unused(path: str, nodes: list[str]) -> None:
    """Stop at a params file whose sections are all for other nodes than those that are started."""
    names = sections(Path(path))
    if not names:
        problem = yaml_problem(Path(path))
        problem = f"is not YAML: {problem}" if problem else "has no ros__parameters of any node"
        raise RuntimeError(f"params_file {path} {problem}")
    if not any(reaches(name, node) for name in names for node in nodes):
        nearest = max(names, key=lambda name: name.endswith("/segmentation_node"))
        raise RuntimeError(f"params_file {path} would not be used: {advice(nearest, nodes[0])}")


def rviz(image: str, above: str, camera: str, fixed_frame: str, clock: dict[str, object]) -> Node:
    """RViz with the package's view, its topics moved to where the nodes have them.

    Args:
        image: the argument.
        above: the nodes' absolute namespace, empty for the root.
        camera: the first of several, empty where there is only one.
        fixed_frame: in which the cloud is shown.
        clock: the parameter use_sim_time, if it is given.
    """
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        distro = os.environ.get("ROS_DISTRO", "DISTRO")
        raise RuntimeError(f"rviz:=true needs RViz: sudo apt install ros-{distro}-rviz2") from None
    of_camera = f"/{camera}" if camera else ""
    image = below(camera, image)
    masks = f"{above}/segmentation_node{of_camera}"
    remappings = [("/image", image if image.startswith("/") else f"{above}/{image}")]
    remappings += [(f"/segmentation_node/{output}", f"{masks}/{output}") for output in SHOWN]
    cloud = "/semantic_cloud_node/points"
    remappings.append((cloud, f"{above}{of_camera}{cloud}"))
    view = os.path.join(SHARE, "config", "rviz", "seg.rviz")
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", view, "-f", fixed_frame],
        parameters=[clock],
        remappings=remappings,
    )


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
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
