"""The package as pip installs it: nothing missing, found from any working directory."""

from __future__ import annotations

import configparser
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from rt_segmentation.ros.environment import PROFILES_VARIABLES, transport_environment

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()
BUILT_FROM = (
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "package.xml",
    "LICENSE",
    "resource",
    "rt_segmentation",
)
DATA = ("config", "launch", "models")
LEFT_OUT = ("examples", "research", "test", "tools")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has installed the package into; built from links: the tree stays as it is."""
    pytest.importorskip("setuptools", minversion="70.1", reason="no wheel can be built")
    source = tmp_path_factory.mktemp("source")
    for name in (*BUILT_FROM, *DATA, *LEFT_OUT):
        if (ROOT / name).exists():
            (source / name).symlink_to(ROOT / name)
    target = tmp_path_factory.mktemp("installed")
    options = [
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--no-compile",
        "--disable-pip-version-check",
    ]
    done = run(sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source))
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the root folder, far from the source tree."""
    return subprocess.run(
        command, cwd="/", env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
    )


def data_files() -> list[str]:
    """The files that an installation needs beside the Python package."""
    files = [p for top in DATA for p in (ROOT / top).rglob("*") if p.is_file()]
    return ["package.xml", *(p.relative_to(ROOT).as_posix() for p in files if p.suffix != ".pyc")]


def test_package_xml_is_of_the_ament_python_kind() -> None:
    assert PACKAGE.get("format") == "3"
    assert PACKAGE.findtext("name") == "rt_segmentation"
    assert PACKAGE.findtext("license") == "Apache-2.0"
    assert PACKAGE.findtext("export/build_type") == "ament_python"
    depends = [element.text for element in PACKAGE if element.tag.endswith("depend")]
    assert "rclpy" in depends
    assert len(depends) == len(set(depends))


def test_package_xml_names_what_is_used_and_nothing_else() -> None:
    """Each ROS package that the code imports or starts is a dependency, and each dependency is used."""
    declared = {element.text or "" for element in PACKAGE if element.tag == "exec_depend"}
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for top in ("rt_segmentation", "launch")
        for path in (ROOT / top).rglob("*.py")
    )
    ros = {name for name in declared if not name.startswith("python3-")}
    patterns = (
        r"^ *(?:import|from) (\w+_(?:msgs|srvs)|rcl\w+|launch\w*|ament_\w+)\b",
        r'import_module\("(cv_bridge|nav_msgs|tf2_msgs|vision_msgs)\b',
        r'Node\(\s*package="(?!rt_segmentation)(\w+)"',
    )
    assert {name for pattern in patterns for name in re.findall(pattern, code, re.M)} == ros
    assert declared - ros == {"python3-numpy", "python3-opencv", "python3-yaml"}


def test_version_is_that_of_package_xml(installed: Path) -> None:
    code = "from importlib.metadata import version; print(version('rt_segmentation'))"
    done = run(sys.executable, "-c", code, PYTHONPATH=str(installed))
    assert done.stdout.strip() == PACKAGE.findtext("version"), done.stderr


def test_every_module_and_template_is_installed(installed: Path) -> None:
    files = [p for p in (ROOT / "rt_segmentation").rglob("*") if p.is_file() and p.suffix != ".pyc"]
    assert files
    assert not [str(p) for p in files if not (installed / p.relative_to(ROOT)).is_file()]


def test_what_only_development_needs_is_not_installed(installed: Path) -> None:
    for name in LEFT_OUT:
        assert (ROOT / name).is_dir() and not (installed / name).exists()
    assert not list((installed / "share").rglob("ablation*"))


def test_every_data_file_is_installed_as_it_is(installed: Path) -> None:
    share = installed / "share" / "rt_segmentation"
    different = [
        name
        for name in data_files()
        if not (share / name).is_file() or (share / name).read_bytes() != (ROOT / name).read_bytes()
    ]
    assert not different


def test_ament_index_knows_the_package(installed: Path) -> None:
    assert (installed / "share/ament_index/resource_index/packages/rt_segmentation").is_file()


def test_data_is_found_from_any_working_directory(installed: Path) -> None:
    code = "from rt_segmentation import resources as r; print(r.__file__); print(r.share_dir())"
    done = run(sys.executable, "-c", code, PYTHONPATH=str(installed))
    assert done.stdout.split() == [
        str(installed / "rt_segmentation" / "resources.py"),
        str(installed / "share" / "rt_segmentation"),
    ], done.stderr


def test_pip_puts_commands_where_a_shell_looks_for_them(installed: Path) -> None:
    for name in ("rt_seg", "segmentation_node", "camera_node", "semantic_cloud_node", "ground_grid_node"):
        assert (installed / "bin" / name).stat().st_mode & stat.S_IXUSR
    done = run(sys.executable, str(installed / "bin" / "rt_seg"), "--help", PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    assert "usage: rt_seg" in done.stdout


def test_colcon_puts_commands_where_ros2_run_looks_for_them() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    assert (
        parser["install"]["install_scripts"] == parser["develop"]["script_dir"] == "$base/lib/rt_segmentation"
    )
    page = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    assert "`ros2 run rt_segmentation rt_seg`" in page


def test_rviz_shows_the_topics_of_the_nodes() -> None:
    config = yaml.safe_load((ROOT / "config/rviz/seg.rviz").read_text(encoding="utf-8"))
    displays = {d["Name"]: d for d in config["Visualization Manager"]["Displays"]}
    assert {d["Topic"]["Value"] for d in displays.values()} == {
        "/image",
        "/segmentation_node/label",
        "/segmentation_node/color",
        "/segmentation_node/overlay",
        "/segmentation_node/legend",
        "/semantic_cloud_node/points",
    }
    # A latched message reaches reliable subscribers only.
    legend = displays["Legend"]["Topic"]
    assert (legend.pop("Reliability Policy"), legend["Durability Policy"]) == ("Reliable", "Transient Local")
    assert displays.pop("Cloud")["Class"] == "rviz_default_plugins/PointCloud2"
    for name, display in displays.items():
        assert display["Class"] == "rviz_default_plugins/Image"
        assert display["Topic"].get("Reliability Policy", "Best Effort") == "Best Effort"
        # RViz places a dock by the name of its display.
        assert name.encode("utf-16-be").hex() in config["Window Geometry"]["QMainWindow State"]
        assert name in config["Window Geometry"]


@pytest.mark.parametrize("name", ["fastdds", "fastdds_localhost"])
def test_fast_dds_profile_holds_a_full_hd_image(name: str) -> None:
    space = {"d": "http://www.eprosima.com"}
    profile = ElementTree.parse(ROOT / f"config/{name}.xml").getroot()
    transports = {
        transport.findtext("d:type", namespaces=space): transport
        for transport in profile.iterfind(".//d:transport_descriptor", space)
    }
    assert set(transports) == {"SHM", "UDPv4"}
    assert int(transports["SHM"].findtext("d:segment_size", "0", space)) > 1920 * 1080 * 3
    only = [each.text for each in transports["UDPv4"].iterfind(".//d:interfaceWhiteList/d:address", space)]
    assert only == (["127.0.0.1"] if name == "fastdds_localhost" else [])


def test_the_profiles_differ_in_what_may_leave_the_machine_alone() -> None:
    space = "{http://www.eprosima.com}"
    usual, localhost = (
        ElementTree.parse(ROOT / f"config/{name}.xml").getroot() for name in ("fastdds", "fastdds_localhost")
    )
    for transport in localhost.iter(f"{space}transport_descriptor"):
        for addresses in transport.findall(f"{space}interfaceWhiteList"):
            transport.remove(addresses)
    without_space = [re.sub(r"\s", "", ElementTree.tostring(root, "unicode")) for root in (usual, localhost)]
    assert without_space[0] == without_space[1]


def test_a_profile_for_this_machine_alone_where_nothing_may_leave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROFILES_VARIABLES, "ROS_LOCALHOST_ONLY"):
        monkeypatch.delenv(name, raising=False)
    before, since = PROFILES_VARIABLES
    for distro, variable, other in (("jazzy", before, since), ("kilted", since, before)):
        monkeypatch.setenv("ROS_DISTRO", distro)
        found = transport_environment()
        assert found[variable] == str(ROOT / "config/fastdds.xml")
        # Kilted's middleware warns of the one that it had before.
        assert other not in found
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    assert transport_environment()[since] == str(ROOT / "config/fastdds_localhost.xml")
    # A profile of the user's stays, whichever Fast DDS reads it.
    monkeypatch.setenv(PROFILES_VARIABLES[0], "mine.xml")
    assert not set(PROFILES_VARIABLES) & set(transport_environment())


def test_what_pip_is_told_to_install_is_what_setup_knows() -> None:
    """A name that PyPI does not have, this package's own among them, could be put there by anybody."""
    requirements = (ROOT / "setup.py").read_text()
    sources = [*(ROOT / "rt_segmentation").rglob("*.py"), *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    told = set()
    for path in sources:
        text = path.read_text()
        assert "rt_segmentation[" not in text, path
        for names in re.findall(r"pip install ([a-z0-9 ]+)(?:'numpy<2')?[`),.:\"\n]", text):
            told.update(names.split())
    assert told >= {"openvino", "onnx", "torch", "nncf", "rosbags"}
    assert [name for name in sorted(told - {"tensorrt"}) if f'"{name}' not in requirements] == []
