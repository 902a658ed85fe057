"""The ROS 2 package (colcon, ament_python) and the pip package; name and version come from package.xml."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()
NAME = PACKAGE.findtext("name", "")
MAINTAINER = next(PACKAGE.iter("maintainer"))
SHARE = f"share/{NAME}"


def data_files() -> list[tuple[str, list[str]]]:
    """What goes below the installation's prefix: (folder there, files here) with sub-folders kept."""
    folders = {
        "share/ament_index/resource_index/packages": [f"resource/{NAME}"],
        SHARE: ["package.xml"],
    }
    for top in ("config", "launch", "models"):
        for path in sorted((ROOT / top).rglob("*")):
            inside = path.relative_to(ROOT)
            if path.is_file() and path.suffix != ".pyc" and not inside.name.startswith("."):
                folders.setdefault(f"{SHARE}/{inside.parent.as_posix()}", []).append(inside.as_posix())
    return list(folders.items())


# pip has ROS 2 for this platform only; elsewhere it comes from a ROS 2 distribution.
ROS_WHEELS = "sys_platform == 'linux' and platform_machine == 'x86_64'"

setup(
    name=NAME,
    version=PACKAGE.findtext("version"),
    description=PACKAGE.findtext("description"),
    maintainer=MAINTAINER.text,
    maintainer_email=MAINTAINER.get("email"),
    license=PACKAGE.findtext("license"),
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed"], f"{NAME}.evaluation.bag.report": ["templates/*"]},
    data_files=data_files(),
    zip_safe=False,
    python_requires=">=3.10",
    # OpenCV is a requirement because pip knows no other way to a working installation. Where it comes from
    # apt (python3-opencv, as rosdep installs it) pip's metadata of it is missing, and that is harmless:
    # colcon installs no requirements, and the scripts setuptools writes look up the entry point alone.
    install_requires=["numpy>=1.21", "opencv-python-headless>=4.5,<5", "PyYAML>=5.4", "safetensors>=0.3.1"],
    extras_require={
        "torch": ["torch>=2.1"],
        "openvino": ["openvino>=2026.0"],
        "onnxruntime": ["onnxruntime>=1.17"],
        "export": ["onnx>=1.15", "torch>=2.1"],
        "int8": ["nncf>=2.14", "openvino>=2026.0"],
        # What a damaged bag is read by came with rosbags 0.11.6, its zstd with 0.11.7.
        "bags": ["jinja2>=3.0", "rosbags>=0.11.7"],
        "fleet": ["jinja2>=3.0", "ray>=2.9", "rosbags>=0.11.7"],
        "labelling": ["pycocotools>=2.0.6"],
        # Below torch 2.4 Adam's fused step is CUDA's alone.
        "train": ["lightning>=2.6", "matplotlib>=3.5", "tensorboard>=2.11", "torch>=2.4"],
        "ros": [
            f"{name}; {ROS_WHEELS}"
            for name in (
                "ros-ament-index-python",
                "ros-diagnostic-msgs",
                "ros-geometry-msgs",
                "ros-lifecycle-msgs",
                "ros-rcl-interfaces",
                "ros-rclpy[fastrtps]",
                "ros-sensor-msgs",
                "ros-std-msgs",
                "ros-std-srvs",
            )
        ],
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.30", "ruff>=0.9"],
        # launch_testing does not work with pytest 9; the packaging test builds a wheel.
        "test": [
            "argcomplete>=2",
            "mcap-ros2-support>=0.5",
            "mypy>=1.8",
            "pycocotools>=2.0.6",
            "pytest>=7,<9",
            "pytest-cov>=5",
            "pytest-xdist>=3.7",
            "ruff>=0.9",
            "setuptools>=70.1",
            "types-PyYAML",
        ],
    },
    entry_points={
        "console_scripts": [
            "rt_seg = rt_segmentation.cli:main",
            "segmentation_node = rt_segmentation.ros.start:segmentation_node",
            "camera_node = rt_segmentation.ros.start:camera_node",
            "semantic_cloud_node = rt_segmentation.ros.start:semantic_cloud_node",
            "ground_grid_node = rt_segmentation.ros.start:ground_grid_node",
        ]
    },
)
