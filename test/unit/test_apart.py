"""What needs PyTorch in a process of its own: what comes back from it, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import apart_functions as functions
from support.processes import is_running

from rt_segmentation import networks
from rt_segmentation.inference.engines import EngineError, EngineUnavailable, apart, export
from rt_segmentation.inference.engines.apart import ApartError
from rt_segmentation.models import ModelError, ModelManifest

pytest.importorskip("torch", reason="torch is not installed: nothing is done in another process")
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def no_torch_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    # pytest names each test in it: a process would be started for each.
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    monkeypatch.setattr(networks, "_registered", {})


def wait_until_over(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


def test_one_process_does_it_all_and_keeps_stdout_clean(capfd: pytest.CaptureFixture[str]) -> None:
    first = apart.apart(functions.number)
    assert first != os.getpid() and apart.apart(functions.number) == first
    deadline = time.monotonic() + PATIENCE_S
    out, err = capfd.readouterr()
    while err.count("said on stdout\n") < 2 or err.count("by another program\n") < 2:
        assert time.monotonic() < deadline
        more = capfd.readouterr()
        out, err = out + more.out, err + more.err
    assert out == ""


def test_it_is_done_here_where_nobody_else_can(monkeypatch: pytest.MonkeyPatch) -> None:
    def number() -> int:
        return apart.apart(functions.number)

    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "torch", None)
        assert number() == os.getpid()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "")
        assert number() == os.getpid()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "frozen", True, raising=False)
        assert number() == os.getpid()
    networks.register_network("of_this_process", lambda classes: None)  # type: ignore[arg-type,return-value]
    assert number() == os.getpid()


def test_networks_of_the_users_are_known_there() -> None:
    networks.register_network("by_place", "support.depthwise_network:Depthwise")
    assert apart.apart(functions.known) == {"by_place": "support.depthwise_network:Depthwise"}


def test_errors_come_back() -> None:
    for kind, error, text in (
        ("unavailable", EngineUnavailable, "needs something"),
        ("model", ModelError, "does not fit"),
        ("parity", ValueError, "no image"),
        ("os", OSError, "[Errno 28] no space left"),
        ("key", RuntimeError, "'x'"),
        ("empty", RuntimeError, "MemoryError"),
    ):
        with pytest.raises(error) as raised:
            apart.apart(functions.fail, kind)
        assert type(raised.value) is error and str(raised.value) == text
        assert "in fail" in str(raised.value.__cause__)


def test_one_that_dies_is_told_with_its_last_lines_and_replaced() -> None:
    with pytest.raises(ApartError) as raised:
        apart.apart(functions.die)
    end = "ended by SIGKILL, as where memory runs out; these are; my last; words"
    assert str(raised.value) == f"the process that imports PyTorch {end}"
    with pytest.raises(ApartError, match=r"ended with status 3$"):
        apart.apart(functions.leave)
    with pytest.raises(ApartError):
        apart.apart(functions.foreign)
    assert apart.apart(functions.number) != os.getpid()


def test_one_that_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "LIMIT_S", 0.1)
    with pytest.raises(ApartError, match=r"ended by its limit of 0\.1 s"):
        apart.apart(functions.freeze)


def test_one_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    # Another state than that of a process that is there.
    monkeypatch.setenv("RT_SEG_ANY", "1")
    with pytest.raises(ApartError, match=r"a process for PyTorch cannot be started: .*/no/such/python"):
        apart.apart(functions.number)


def test_idle_ones_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RT_SEG_ANY", "2")
    monkeypatch.setattr(apart, "IDLE_S", 0.05)
    pid = apart.apart(functions.number)
    wait_until_over(pid)
    assert apart.apart(functions.number) not in (pid, os.getpid())


def test_it_dies_with_its_parent_whatever_it_does(tmp_path: Path) -> None:
    said = tmp_path / "pid"
    code = (
        "from pathlib import Path; from support.apart_functions import freeze;"
        " from rt_segmentation.inference.engines.apart import apart;"
        f" apart(freeze, Path({str(said)!r}))"
    )
    path = os.pathsep.join(place for place in sys.path if place)
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (said.is_file() and said.read_text()):
            assert time.monotonic() < deadline and parent.poll() is None
            time.sleep(0.01)
        pid = int(said.read_text())
        assert is_running(pid)
    finally:
        parent.kill()
        parent.wait()
    wait_until_over(pid)


def test_engines_say_which_model_it_was_for(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # The fixture has imported it.
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(export, "_check", functions.die)
    with pytest.raises(EngineError, match=r"^model 'small' cannot be made ready here: .*; words$"):
        export.check_exportable(small_model)
    monkeypatch.setattr(export, "_export", functions.die)
    with pytest.raises(EngineError, match=r"^model 'small' has no graph at 64x48: the process .*; words$"):
        export.graph_entry(small_model, 1, 48, 64)
    assert "torch" not in sys.modules


def test_where_a_network_is_costs_no_import_of_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outer_of_nets" / "inner").mkdir(parents=True)
    for folder in ("outer_of_nets", "outer_of_nets/inner"):
        (tmp_path / folder / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "outer_of_nets" / "inner" / "net.py").write_text("class Net: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert len(networks.code_digest("outer_of_nets.inner.net:Net")) == 16
    assert networks.code_digest("outer_of_nets.none.net:Net") == ""
    assert networks.code_digest("no_such_package.net:Net") == ""


def test_the_digest_of_a_network_knows_what_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {
        "digested/__init__.py": "raise SystemExit('imported')",
        "digested/net.py": "import torch\nfrom .parts import block\nclass Net:\n    import beside.deep\n",
        "digested/parts/__init__.py": "from . import block",
        "digested/parts/block.py": "from ..net import Net\nWIDTH = 8",
        "beside/deep.py": "import elsewhere",
        "digested/other.py": "",
    }
    for name, text in sources.items():
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_text(text)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/elsewhere.py").write_text("import unfollowed")
    for folder in ("a", "b"):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    found = set()
    for file in sorted(tmp_path.rglob("*.py")):
        before = networks.code_digest("digested.net:Net")
        text = file.read_text()
        file.write_text(text + "\n# changed")
        if networks.code_digest("digested.net:Net") != before:
            found.add(str(file.relative_to(tmp_path)))
        file.write_text(text)
    assert found == {*(f"a/{name}" for name in sources if "other" not in name), "b/elsewhere.py"}
