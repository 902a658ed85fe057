"""Golden labels of somebody's ONNX graph: they find the normalisation, and an engine must give them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from rt_segmentation.inference.engines import EngineError, build_engine
from rt_segmentation.models import ModelError, find_model

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from support import foreign  # noqa: E402
from support.imported import NORMALISED, SIZE, imported, refusal, write  # noqa: E402

if TYPE_CHECKING:
    from torch import nn


@pytest.mark.parametrize("kind", ["golden", "reference"])
def test_golden_labels_find_the_normalisation_and_are_kept(
    kind: str, net: Path, lraspp: nn.Module, frames: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = foreign.expected(lraspp, frames, bgr=True)
    place = net.parent / kind
    if kind == "golden":
        place = place.with_suffix(".npz")
        np.savez(place, images=frames, labels=wanted.astype(np.int64))
    else:
        for number, (image, labels) in enumerate(zip(frames, wanted)):
            write(place / "images" / f"{number}.png", image)
            write(place / "labels" / f"{number}.png", labels)
    manifest = imported(net, f"by_{kind}", f"--{kind}", str(place))
    assert "found among 12: ImageNet bgr" in capsys.readouterr().err
    assert manifest.onnx is not None and manifest.onnx.order == "bgr"
    assert manifest.mean == pytest.approx(foreign.MEAN) and (manifest.width, manifest.height) == SIZE
    assert np.mean(build_engine(manifest, "onnxruntime").infer(frames, False)[0] == wanted) >= 0.999


def test_an_engine_must_reproduce_the_golden_labels(
    net: Path, lraspp: nn.Module, frames: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = net.parent / "golden.npz"
    np.savez(golden, images=frames, labels=foreign.expected(lraspp, frames))
    manifest = imported(net, "strict", *NORMALISED, "--golden", str(golden))
    # Somebody changes what is done to images, not the graph: the original runs as the engine does.
    text = manifest.path.read_text().replace("order: rgb", "order: bgr")
    manifest.path.write_text(text)
    with pytest.raises(EngineError, match=r"of the pixels of .*strict\.golden\.npz, what that says"):
        build_engine(find_model(manifest.path), "onnxruntime").infer(frames, False)
    # And a file of golden labels that is another one is not believed.
    np.savez(net.parent / "strict.golden.npz", images=frames, labels=np.zeros(frames.shape[:3], np.uint8))
    with pytest.raises(ModelError, match=r"golden labels .* have sha256"):
        build_engine(find_model(manifest.path), "onnxruntime")


def test_golden_labels_that_are_others_refuse_the_import(
    net: Path, frames: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = net.parent / "golden.npz"
    np.savez(golden, images=frames, labels=np.zeros(frames.shape[:3], np.uint8))
    sentence = refusal(capsys, net, *NORMALISED, "--golden", str(golden))
    assert "of the pixels of golden file" in sentence and "99.5% is needed" in sentence


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((1, 64, 96, 3), np.uint8)}, "lacks an array (labels"),
        ({"images": np.zeros((1, 64, 96, 3)), "labels": np.zeros((1, 64, 96), int)}, "has images float64"),
        (
            {"images": np.zeros((1, 64, 96, 3), np.uint8), "labels": np.zeros((1, 8, 12), int)},
            "has labels int64 (1, 8, 12)",
        ),
        (
            {"images": np.zeros((1, 64, 96, 3), np.uint8), "labels": np.full((1, 64, 96), -1)},
            "labels from -1 to -1; ids go from 0 to 255",
        ),
        (None, "must be an .npz"),
    ],
)
def test_a_bad_golden_file_is_named(
    arrays: dict[str, np.ndarray] | None, words: str, net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = net.parent / "golden.npz"
    if arrays is None:
        golden.write_bytes(b"nothing")
    else:
        np.savez(golden, **arrays)  # type: ignore[arg-type]
    sentence = refusal(capsys, net, *NORMALISED, "--golden", str(golden))
    assert words in sentence and "golden.npz" in sentence


def test_golden_images_of_several_sizes_are_refused(
    net: Path, frames: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, height in enumerate((64, 48)):
        write(net.parent / "ref" / "images" / f"{number}.png", frames[0][:height])
        write(net.parent / "ref" / "labels" / f"{number}.png", frames[0][:height, :, 0] % 11)
    sentence = refusal(capsys, net, *NORMALISED, "--reference", str(net.parent / "ref"))
    assert "of 96x48 and of 96x64; all must have the size" in sentence
