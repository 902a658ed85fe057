"""Fixtures for all tests."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Before torch is imported, here and in all processes of the tests: with another number of threads sums take
# another order, and the last bit of a score may differ; and on a busy machine threads wait for one another.
os.environ["OMP_NUM_THREADS"] = "1"
# Models that somebody has installed here are none of the tests'.
os.environ["RT_SEG_MODELS"] = os.path.join(os.devnull, "models")
# A shell starts what runs in its background with Ctrl-C ignored, nohup with SIGHUP, and so these processes;
# some tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

from rt_segmentation import telemetry

# Also where a test imports a library by itself.
telemetry.switch_off()

if TYPE_CHECKING:
    from rt_segmentation.models import ModelManifest


# The longest files. Processes that run concurrently begin with these, in this order: so none of them is left
# with one when the others are done.
LONG = (
    "test_segmentation_node.py",
    "test_training_resumed.py",
    "test_training.py",
    "test_segmentation_lifecycle.py",
    "test_start_and_end.py",
    "test_evaluate_bag_fleet.py",
    "test_camera_node.py",
    "test_evaluate_bag_command.py",
    "test_benchmark.py",
    "test_engines.py",
    "test_switching.py",
    "test_parameter_files.py",
    "test_examples.py",
    "test_segmentation_faults.py",
    "test_launch.py",
    "test_networks.py",
    "test_docs_commands.py",
    "test_evaluate_bag.py",
    "test_int8.py",
    "test_tensorrt.py",
    "test_folds.py",
    "test_health.py",
    "test_node_without_torch.py",
    "test_enable_and_reload.py",
    "test_bag_realtime.py",
    "test_benchmark_node.py",
    "test_frozen_node.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """One cache of engines for all processes of a run; the user's is neither read nor filled."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = tempfile.mkdtemp(prefix="rt_segmentation_cache_")
        os.environ["XDG_CACHE_HOME"] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, where `pytest -n` shares them among processes."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {name: place for place, name in enumerate(LONG)}
        items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


def find_shared_data() -> Path:
    """`RTSEG_DATA`, or `shared/data` beside the repository: third-party data that may be absent."""
    given = os.environ.get("RTSEG_DATA")
    return Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = find_shared_data()
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}; RTSEG_DATA names its folder")
    return folder


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> ModelManifest:
    """A quick ENet for 160x120 with random weights of a fixed seed, which finds every class in a street."""
    torch = pytest.importorskip("torch", reason="torch is not installed: no network to run")
    from support.models import save_untrained

    from rt_segmentation.data.synthetic import StreetScene
    from rt_segmentation.networks import build_network

    torch.manual_seed(0)
    network = build_network("enet", 11)
    rgb = torch.from_numpy(StreetScene(0, 160, 120).render(0.0)[0])
    images = rgb.permute(2, 0, 1).unsqueeze(0).float() / 255
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        # Statistics of a street, and logits of the same spread for each class: none wins everywhere.
        network.train()(images)
        logits = network.eval()(images)
        mean, spread = logits.mean((0, 2, 3)), logits.std((0, 2, 3)) / 2
        weight, bias = list(network.parameters())[-2:]
        weight.div_(spread.view(1, -1, 1, 1))
        bias.copy_((bias - mean) / spread)
    return save_untrained(tmp_path_factory.mktemp("models") / "small.yaml", network, "enet", (160, 120))
