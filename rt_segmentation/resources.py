"""Where config, models and launch files are: in a source tree, a pip environment or a colcon workspace."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from rt_segmentation.errors import RtSegmentationError

PACKAGE = "rt_segmentation"


MODELS_VARIABLE = "RT_SEG_MODELS"
"""Environment variable with the folder of installed models."""


class ResourceError(RtSegmentationError, RuntimeError):
    """The package's data files are not where an installation puts them."""


@cache
def share_dir() -> Path:
    """The folder that holds `config`, `models`, `launch` and `package.xml`.

    A source tree (also an editable or symlink install) holds them beside the Python package; `pip install`
    and `colcon build` put them into ``PREFIX/share/rt_segmentation``, PREFIX being above the Python package.

    Raises:
        ResourceError: neither is there, nor does the ament index know the package.
    """
    module = Path(__file__)
    for start in dict.fromkeys((module.absolute(), module.resolve())):
        source_tree = start.parent.parent
        if (source_tree / "package.xml").is_file() and (source_tree / "config" / "labels").is_dir():
            return source_tree
        for prefix in start.parents:
            share = prefix / "share" / PACKAGE
            if (share / "config" / "labels").is_dir():
                return share
    try:
        from ament_index_python.packages import get_package_share_directory

        return Path(get_package_share_directory(PACKAGE))
    except (ImportError, LookupError):
        raise ResourceError(
            f"{PACKAGE}'s config and models are missing beside {module.parent}; reinstall the package"
            " with pip or colcon"
        ) from None


def installed_models_dir() -> Path:
    """The folder of the user's installed models, which are found by name; it may not be there.

    It is ``$RT_SEG_MODELS``, or else ``$XDG_DATA_HOME/rt_segmentation/models``, ~/.local/share by default,
    and ``installed_models`` beside it where the package's own models are there.

    Raises:
        ResourceError: the package's files are not there.
    """
    given = os.environ.get(MODELS_VARIABLE, "")
    if given:
        return Path(os.path.expanduser(given)).absolute()
    home = os.environ.get("XDG_DATA_HOME", "")
    try:
        # The base directory specification: a relative path is to be ignored.
        base = Path(home) if os.path.isabs(home) else Path("~/.local/share").expanduser()
    except RuntimeError:
        # No HOME, and a user that the system does not know, as in containers: a folder that never is there.
        base = Path(os.devnull)
    folder = base / PACKAGE / "models"
    # `pip install --user` puts the package's own models there.
    return base / PACKAGE / "installed_models" if folder == share_dir() / "models" else folder
