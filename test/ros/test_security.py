"""With security asked for, a node with keys that are no good does not run without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from support.node_under_test import NODE, ros_args

ENCLAVE = "rt_segmentation/segmentation_node"
FILES = (
    "identity_ca.cert.pem",
    "permissions_ca.cert.pem",
    "cert.pem",
    "key.pem",
    "governance.p7s",
    "permissions.p7s",
)


# Fast DDS that was built without security refuses them as well: the node never runs open to everybody.
@pytest.mark.parametrize("keys", [True, False])
def test_a_node_that_cannot_be_protected_does_not_start(spawn: Any, tmp_path: Path, keys: bool) -> None:
    enclave = tmp_path / "enclaves" / ENCLAVE
    enclave.mkdir(parents=True)
    for name in FILES if keys else ():
        (enclave / name).write_text("no key\n")
    security = {"KEYSTORE": str(tmp_path), "ENABLE": "true", "STRATEGY": "Enforce"}
    environment = {f"ROS_SECURITY_{name}": value for name, value in security.items()}
    node = spawn(NODE, *ros_args("/"), "--enclave", f"/{ENCLAVE}", **environment)
    assert node.finish() == 2
    assert "Traceback" not in node.output and "active:" not in node.output
    assert node.output.count("[FATAL]") == 1
