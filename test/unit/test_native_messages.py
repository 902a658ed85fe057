"""What image libraries write past the log: caught, logged now and then, and nobody else's lines with it."""

from __future__ import annotations

import logging
import os
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from rt_segmentation.data.sources import FolderSource
from rt_segmentation.imaging import native_messages
from rt_segmentation.imaging.codec import decode_compressed, encode_jpeg, encode_png

RGB = np.random.RandomState(0).randint(0, 256, (120, 160, 3), np.uint8)


def broken_jpeg() -> bytes:
    """libjpeg finds the end before the last rows."""
    data = bytearray(encode_jpeg(RGB))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def odd_png() -> bytes:
    """libpng does not like its colour profile."""
    data, chunk = encode_png(RGB), b"iCCP" + b"x\0\0junk"
    return data[:33] + struct.pack(">I", 7) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_messages, "_told", native_messages._Told())


@pytest.mark.parametrize(
    ("data", "line"), [(broken_jpeg(), "Corrupt JPEG data"), (odd_png(), "libpng warning")]
)
def test_the_librarys_line_is_in_the_log_and_not_on_the_terminal(
    data: bytes, line: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert line in capfd.readouterr().err, "this OpenCV is silent by itself"
    for _ in range(5):
        with caplog.at_level(logging.WARNING), native_messages.logged():
            decode_compressed("", data)
    assert capfd.readouterr().err == ""
    assert [line in record.getMessage() for record in caplog.records] == [True]


def test_what_others_write_meanwhile_arrives_whole(capfd: pytest.CaptureFixture[str]) -> None:
    data, over = broken_jpeg(), threading.Event()
    lines = [f"line {number}\n" for number in range(2000)]

    def write() -> None:
        for line in lines:
            os.write(2, line.encode())
        over.set()

    def decode() -> None:
        while not over.is_set():
            with native_messages.logged():
                decode_compressed("jpeg", data)

    with ThreadPoolExecutor(3) as pool:
        for job in [pool.submit(decode), pool.submit(decode), pool.submit(write)]:
            job.result()
    written = capfd.readouterr().err.splitlines(keepends=True)
    assert sorted(written) == sorted(lines)


def test_threads_that_write_at_once_keep_all_their_lines(capfd: pytest.CaptureFixture[str]) -> None:
    lines = [[f"{writer} line {number}\n" for number in range(2000)] for writer in range(4)]

    def write(mine: list[str]) -> None:
        for line in mine:
            os.write(2, line.encode())

    with native_messages.logged(), ThreadPoolExecutor(len(lines)) as pool:
        list(pool.map(write, lines))
    written = capfd.readouterr().err.splitlines(keepends=True)
    assert sorted(written) == sorted(line for mine in lines for line in mine)


def test_lines_of_others_do_not_wait_for_a_disk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, images = tmp_path / "image.jpg", tmp_path / "images"
    path.write_bytes(broken_jpeg())
    images.mkdir()
    cv2.imwrite(str(images / "0.png"), RGB)
    source = FolderSource(images)
    # What reads it waits until somebody writes it.
    (images / "0.png").unlink()
    os.mkfifo(images / "0.png")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: next(iter(source)))
        with (images / "0.png").open("wb") as pipe:
            os.write(2, b"meanwhile\n")
            seen = capfd.readouterr().err
            pipe.write(path.read_bytes())
        assert reading.result().rgb.shape == RGB.shape
    assert seen == "meanwhile\n"
    # What libjpeg said is caught all the same.
    assert capfd.readouterr().err == ""


def test_an_error_of_the_decoder_gives_stderr_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="whole JPEG"), native_messages.logged():
        decode_compressed("jpeg", b"nothing")
    os.write(2, b"still there\n")
    assert capfd.readouterr().err == "still there\n"


def test_lines_that_were_read_do_not_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_messages, "KEPT_BYTES", 500)
    data, sizes = broken_jpeg(), []
    for _ in range(50):
        with native_messages.logged():
            decode_compressed("", data)
        sizes.append(os.fstat(native_messages._stderr._file).st_size)
    assert max(sizes) < 1000 and max(sizes) > 0


def test_a_reader_of_stderr_that_is_gone_costs_no_image(capfd: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    terminal = os.dup(2)
    os.dup2(writing, 2)
    os.close(writing)
    os.close(reading)
    try:
        for _ in range(3):
            with native_messages.logged():
                os.write(2, b"of another thread\n")
        held = len(os.listdir("/proc/self/fd"))
        with native_messages.logged():
            os.write(2, b"of another thread\n")
        assert len(os.listdir("/proc/self/fd")) == held
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
    os.write(2, b"still there\n")
    assert capfd.readouterr().err == "still there\n"
