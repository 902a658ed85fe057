"""The engines' cache: whole entries or none, whatever happens."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest

from rt_segmentation.inference import cache
from rt_segmentation.inference.cache import CacheKey
from rt_segmentation.inference.cache_contents import clear

KEY = CacheKey("graph", {"model": "toy", "batch": 1}, {"code": "a", "library": "1.0"})


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rt_segmentation"


def test_round_trip(root: Path) -> None:
    assert cache.find(KEY) is None
    stored = cache.store(KEY, {"a.bin": b"abc"}, {"agreement": 0.5})
    found = cache.find(KEY)
    assert found == stored and found is not None
    assert found.file("a.bin").read_bytes() == b"abc" and found.data["agreement"] == 0.5
    assert found.folder.parent == root and found.folder.name.startswith("toy-graph-")
    assert [entry.folder for entry in cache.entries()] == [found.folder]


def test_another_identity_is_another_entry() -> None:
    cache.store(KEY, {}, {})
    other = replace(KEY, identity={"model": "toy", "batch": 2})
    assert cache.find(other) is None
    cache.store(other, {}, {})
    assert cache.find(KEY) is not None and len(cache.entries()) == 2


def test_whoever_may_read_the_cache_may_read_its_entries(root: Path) -> None:
    root.mkdir()
    root.chmod(0o755)
    assert cache.store(KEY, {}, {}).folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("damage", ["cut", "gone", "{", "{}", '{"files": []}', "made_with"])
def test_a_damaged_entry_is_reported_and_can_be_written_again(
    damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry = cache.store(KEY, {"a.bin": b"abc"}, {})
    if damage == "cut":
        entry.file("a.bin").write_bytes(b"ab")
    elif damage == "gone":
        entry.file("a.bin").unlink()
    elif damage == "made_with":
        content = json.loads(entry.file("entry.json").read_text())
        entry.file("entry.json").write_text(json.dumps({**content, "made_with": 5}))
    else:
        entry.file("entry.json").write_text(damage)
    assert cache.find(KEY) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "damaged" in caplog.text and str(entry.folder) in caplog.text
    cache.store(KEY, {"a.bin": b"new"}, {})
    found = cache.find(KEY)
    assert found is not None and found.file("a.bin").read_bytes() == b"new"


def test_a_stale_entry_is_reported_with_what_changed(caplog: pytest.LogCaptureFixture) -> None:
    cache.store(KEY, {}, {})
    assert cache.find(replace(KEY, made_with={"code": "a", "library": "2.0"})) is None
    assert "stale (library was 1.0, is 2.0)" in caplog.text


def _fill(number: int) -> None:
    for _ in range(20):
        with cache.locked(KEY):
            cache.store(KEY, {"a.bin": bytes([number]) * 10_000, "b.bin": bytes([number])}, {"by": number})


def test_two_processes_at_once() -> None:
    writers = [multiprocessing.get_context("fork").Process(target=_fill, args=(n,)) for n in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    entry = cache.find(KEY)
    assert entry is not None
    assert (
        set(entry.file("a.bin").read_bytes()) == set(entry.file("b.bin").read_bytes()) == {entry.data["by"]}
    )


def test_a_lock_that_cannot_be_had_keeps_nothing_from_being_built(root: Path) -> None:
    (root / f".{KEY.folder_name}.lock").mkdir(parents=True)
    with cache.locked(KEY):
        cache.keep(KEY, {"a.bin": b"abc"}, {})
    assert cache.kept() and cache.find(KEY) is not None


def test_a_crash_leaves_nothing_that_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(KEY, {"a.bin": b"old"}, {})

    def crash(*paths: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="no space"):
            cache.store(KEY, {"a.bin": b"new"}, {})
    found = cache.find(KEY)
    assert found is not None and found.file("a.bin").read_bytes() == b"old"
    assert not list(root.glob(".new-*"))


def test_holds_looks_at_part_of_the_identity_and_of_the_makers() -> None:
    made_with = {"code": "b"}
    assert not cache.holds("graph", {"model": "toy"}, made_with)
    cache.store(KEY, {}, {})
    assert not cache.holds("graph", {"model": "toy"}, made_with)
    cache.store(replace(KEY, made_with={**made_with, "library": "1.0"}), {}, {})
    assert cache.holds("graph", {"model": "toy"}, made_with)
    assert not cache.holds("openvino", {"model": "toy"}, made_with)
    assert not cache.holds("graph", {"model": "other"}, made_with)


def test_what_was_not_used_for_long_makes_room(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [replace(KEY, identity={"size": size}) for size in range(4)]
    for age, key in enumerate(keys[:3]):
        folder = cache.store(key, {"a.bin": bytes(10_000)}, {}).folder
        os.utime(folder, (1000.0 + age, 1000.0 + age))
    # Used again, the first is no longer the oldest.
    assert cache.find(keys[0]) is not None
    monkeypatch.setattr(cache, "DISK_BYTES", 35_000)
    cache.store(keys[3], {"a.bin": bytes(10_000)}, {})
    assert [cache.find(key) is not None for key in keys] == [True, False, True, True]
    # What is too large for the cache alone is there still: somebody is about to use it.
    cache.store(KEY, {"a.bin": bytes(50_000)}, {})
    assert [entry.key["identity"] for entry in cache.entries()] == [KEY.identity]


def test_what_makes_no_room_is_not_deleted_for_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = replace(KEY, identity={"record": True})
    os.utime(cache.store(record, {}, {"timings": []}).folder, (1000.0, 1000.0))
    monkeypatch.setattr(cache, "DISK_BYTES", 15_000)
    for number in range(3):
        cache.store(replace(KEY, identity={"number": number}), {"a.bin": bytes(10_000)}, {})
    assert [entry.key["identity"] for entry in cache.entries() if entry.data] == [record.identity]
    assert len(cache.entries()) == 2


def test_what_a_crash_left_is_deleted_later(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir()
    left = {name: root / name for name in (".new-old", ".old-old", ".new-now")}
    for folder in left.values():
        folder.mkdir()
        (folder / "part").write_bytes(b"12345")
    for name in (".new-old", ".old-old"):
        os.utime(left[name], (1000.0, 1000.0))
    foreign = root / ".git"
    foreign.mkdir()
    os.utime(foreign, (1000.0, 1000.0))

    def full(*_: object) -> None:
        raise OSError("no space left")

    # It may be what fills the disk.
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        cache.store(KEY, {"a.bin": b"abc"}, {})
    assert [name for name, folder in left.items() if folder.exists()] == [".new-now"] and foreign.exists()


def test_clear_deletes_everything(root: Path) -> None:
    cache.store(KEY, {"a.bin": b"abc"}, {})
    (root / ".new-left").mkdir()
    (root / ".new-left" / "part").write_bytes(b"12345")
    assert clear() > 8
    assert cache.entries() == [] and not [path for path in root.iterdir() if path.is_dir()]


def test_a_relative_cache_home_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_root() == tmp_path / ".cache" / "rt_segmentation"


def test_what_cannot_be_written_is_kept_in_memory_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    other = replace(KEY, identity={"model": "toy", "batch": 2}, made_with={"code": "b"})
    for key in (KEY, other):
        assert cache.find(key) is None and not cache.holds(key.kind, key.identity, key.made_with)
        with cache.locked(key):
            entry = cache.keep(key, {"a.bin": b"abc"}, {"agreement": 0.5})
        assert cache.find(key) == cache.find_quietly(key) == entry
        assert (entry.read("a.bin"), entry.data["agreement"], entry.size_bytes) == (b"abc", 0.5, 3)
    assert cache.holds("graph", {"batch": 2}, {"code": "b"})
    assert not cache.holds("graph", {"batch": 3}, {"code": "b"})
    assert not cache.kept() and cache.entries() == [] and clear() == 0
    assert caplog.text.count("cannot be written (Not a directory)") == 1
    # Another version of what it was made with is another entry.
    assert cache.find(replace(KEY, made_with={"code": "c"})) is None
    # Strictly, for who has nothing else to do with it.
    with pytest.raises(OSError, match="Not a directory"):
        cache.store(KEY, {}, {})


def test_what_is_in_memory_goes_to_disk_when_there_is_room_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        cache.keep(KEY, {"a.bin": b"abc"}, {})
    assert not cache.kept() and not [path for path in root.iterdir() if path.is_dir()]
    cache.keep(KEY, {"a.bin": b"abc"}, {})
    assert cache.kept() and [entry.read("a.bin") for entry in cache.entries()] == [b"abc"]


def test_memory_holds_only_so_much_of_what_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(cache, "MEMORY_BYTES", 350)
    keys = [replace(KEY, identity={"size": size}) for size in range(5)]
    verdict = replace(KEY, identity={"verdict": True})
    cache.keep(verdict, {}, {"agreement": 1.0})
    entries = [cache.keep(key, {"a.bin": bytes(100)}, {}) for key in keys]
    assert [cache.find(key) is not None for key in keys] == [False, False, True, True, True]
    # Whoever has it uses it still, what has no files costs nothing, and what is too large alone is used.
    assert entries[0].read("a.bin") == bytes(100) and cache.find(verdict) is not None
    large = cache.keep(KEY, {"a.bin": bytes(1000)}, {})
    assert cache.find(KEY) == large and cache.find(keys[4]) is None and not cache.kept()


def test_no_home_and_no_such_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert cache.find(KEY) is None and cache.entries() == []
    assert cache.keep(KEY, {"a.bin": b"abc"}, {}).read("a.bin") == b"abc"
    assert cache.find(KEY) is not None


def test_the_description_is_plain_json(root: Path) -> None:
    entry = cache.store(KEY, {"a.bin": b"abc"}, {"agreement": 1.0})
    content = json.loads(entry.file("entry.json").read_text())
    assert set(content) == {"kind", "identity", "made_with", "files", "data"}
