"""`rt_seg cache clear`: what it deletes is said first, and asked where somebody can answer."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from rt_segmentation.cli import main
from rt_segmentation.inference import cache, tuned, tuning
from rt_segmentation.inference.cache import CacheKey
from rt_segmentation.inference.cache_contents import held


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with an entry each of a graph, of both kinds of `rt_seg tune`, and what is no entry."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for kind, size in (("graph", 3_000_000), (tuned.KIND, 10), (tuning.KIND, 10)):
        cache.store(CacheKey(kind, {"model": "toy"}, {}), {"a.bin": bytes(size)}, {})
    root = cache.cache_root()
    for name in (".new-left", "toy-graph-damaged", "cameras"):
        (root / name).mkdir()
        (root / name / "part").write_bytes(bytes(1_000_000))
    (root / ".toy-graph.lock").touch()
    return root


def kinds() -> list[str]:
    return sorted(one.kind for one in held())


EVERYTHING = ["graph", "other", "other", "settings", "tuned", "unfinished"]


@pytest.mark.parametrize(("answer", "goes"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("", False)])
def test_on_a_terminal_it_says_what_goes_and_asks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, goes: bool
) -> None:
    assert kinds() == EVERYTHING
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert main(["cache", "clear"]) == 0
    said, asked = capsys.readouterr()
    assert asked == "Delete them? [y/N] "
    lines = said.splitlines()
    assert "6 entries, 6.0 MB to delete" in lines[0]
    assert [line.split()[:3] for line in lines[1:-1]] == [
        ["graph", "1", "3.0"],
        ["other", "2", "2.0"],
        ["settings", "1", "0.0"],
        ["tuned", "1", "0.0"],
        ["unfinished", "1", "1.0"],
    ]
    assert [line.split()[0] for line in lines if "--keep-tuned keeps it" in line] == ["settings", "tuned"]
    assert ("6.0 MB deleted" if goes else "nothing is deleted") in lines[-1]
    assert kinds() == ([] if goes else EVERYTHING)


@pytest.mark.parametrize("nobody", [io.StringIO("y\n"), None])
def test_without_a_terminal_it_deletes_only_where_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    root: Path,
    nobody: io.StringIO | None,
) -> None:
    monkeypatch.setattr("sys.stdin", nobody)
    assert main(["cache", "clear"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "give --yes to delete them" in said and "--keep-tuned" in said
    assert kinds() == EVERYTHING
    assert main(["cache", "clear", "--keep-tuned", "--yes"]) == 0
    said = capsys.readouterr().out
    assert "4 entries, 6.0 MB to delete" in said and "rt_seg tune" not in said and "6.0 MB deleted" in said
    assert kinds() == ["settings", "tuned"]
    assert main(["cache", "clear", "-y"]) == 0
    assert kinds() == [] and (root / ".toy-graph.lock").exists()
    # Nothing is asked where there is nothing to lose.
    capsys.readouterr()
    assert main(["cache", "clear"]) == 0
    assert "nothing to delete" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["files", "identity", "made_with", "data"])
@pytest.mark.parametrize("value", [[], None, "text"])
def test_an_entry_of_another_form_is_not_listed(
    root: Path, capsys: pytest.CaptureFixture[str], part: str, value: Any
) -> None:
    for path in root.glob(f"*/{cache.DESCRIPTION}"):
        path.write_text(json.dumps({**json.loads(path.read_text()), part: value}))

    assert main(["cache", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == []
