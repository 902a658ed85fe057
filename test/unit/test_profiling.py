"""`rt_seg models profile`, profiles and temperatures in manifests, and a temperature in the graph."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("torch", reason="torch is not installed: no network to run")

import torch

from rt_segmentation.cli import main
from rt_segmentation.data.street_dataset import Street
from rt_segmentation.evaluation.profiling import Calibrator
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.pictures import write_picture
from rt_segmentation.inference.engines.graph import EngineGraph
from rt_segmentation.inference.network import model_identity
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.models import ModelError, ModelManifest, read_manifest, write_manifest
from rt_segmentation.profiles import Profile
from rt_segmentation.weights import load_weights, save_model

STREET = ["--option", "scenes=3", "--option", "frames_per_scene=1", "--option", "first_seed=100"]
STREET += ["--option", "width=96", "--option", "height=64"]
SHARES = (1.0,) + (0.0,) * 10
PROFILE = Profile("somewhere", 9, SHARES, SHARES, 0.9, 0.1, 0.2)


@pytest.fixture
def own(small_model: ModelManifest, tmp_path: Path) -> ModelManifest:
    """A copy that may be written."""
    manifest = replace(small_model, path=tmp_path / "own.yaml", name="own", weights="own.safetensors")
    return save_model(manifest, load_weights(small_model))


def test_a_manifest_keeps_profile_and_temperature(own: ModelManifest) -> None:
    content = yaml.safe_load(own.path.read_text())
    assert "profile" not in content and "temperature" not in content
    written = write_manifest(replace(own, profile=PROFILE, temperature=1.5))
    before = written.path.read_bytes()
    with pytest.raises(ModelError, match="would not be readable"):
        write_manifest(replace(written, license="caf\udce9"))
    assert written.path.read_bytes() == before
    assert (written.profile, written.temperature) == (PROFILE, 1.5)
    assert written == read_manifest(own.path)
    assert yaml.safe_load(own.path.read_text())["profile"] == {
        key: list(value) if isinstance(value, tuple) else value for key, value in asdict(PROFILE).items()
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"temperature": 0.0}, "temperature is 0.0, it must be from 0.01 to 100"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"profile": replace(PROFILE, shares=(1.0,))}, "1 shares and 11 deviations for 11 classes"),
        ({"profile": replace(PROFILE, confidence=90.0)}, "not from 0 to 1"),
    ],
)
def test_a_manifest_that_is_wrong_is_not_written(
    own: ModelManifest, change: dict[str, object], sentence: str
) -> None:
    before = own.path.read_bytes()
    with pytest.raises(ModelError, match=sentence):
        write_manifest(replace(own, **change))  # type: ignore[arg-type]
    assert own.path.read_bytes() == before


def test_a_profile_that_was_cut_is_said(own: ModelManifest) -> None:
    text = write_manifest(replace(own, profile=PROFILE)).path.read_text()
    own.path.write_text(text.replace("  frames: 9\n", ""))
    with pytest.raises(ModelError, match=r"key 'profile.frames' is missing"):
        read_manifest(own.path)


def test_a_temperature_divides_the_logits() -> None:
    class Nothing(torch.nn.Module):
        """Stands for a network."""

    logits = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0)) * 3
    top = logits.max(1).values
    for temperature in (1.0, 0.7, 2.5):
        graph = EngineGraph(Nothing(), (0.0,) * 3, (1.0,) * 3, temperature)  # type: ignore[arg-type]
        expected = torch.round(torch.softmax(logits / temperature, 1).max(1).values * 255)
        assert (graph.confidence(logits, top) - expected).abs().max() <= 1


def test_a_temperature_changes_confidence_and_no_label(own: ModelManifest) -> None:
    frame = Frame.from_rgb(Street(1, 1, 100, 160, 120)[0].image)

    def segmented(temperature: float) -> tuple[np.ndarray, float]:
        segmenter = Segmenter.build(replace(own, temperature=temperature), "torch", "fp32")
        (result,) = segmenter.segment([frame], confidence=True)
        assert result.confidence is not None
        return result.labels, float(result.confidence.mean())

    (labels, usual), (cold_labels, cold) = segmented(1.0), segmented(0.5)
    assert np.array_equal(labels, cold_labels)
    assert cold > usual
    assert model_identity(own) == model_identity(replace(own, temperature=1.0))
    assert model_identity(own) != model_identity(replace(own, temperature=0.5))


def test_a_fitted_temperature_makes_confidence_right(own: ModelManifest) -> None:
    street = Street(2, 1, 100, 96, 64)
    calibrator = Calibrator(own, street)
    for i in range(len(street)):
        calibrator.add(street[i])
    found = calibrator.fit()
    # Random weights are right by chance, and far too sure.
    assert found.temperature > 1.5
    assert found.error_after < found.error_before


def test_labels_larger_than_the_network_count_under_its_pixels_centres(own: ModelManifest) -> None:
    street = Street(1, 1, 100, 480, 360)
    sample = street[0]
    (result,) = Segmenter.build(own, "torch", "fp32").infer([Frame.from_rgb(sample.image)], confidence=True)
    assert result.answer is not None and result.answer.labels.shape == (120, 160)
    labels = np.full(sample.labels.shape, IGNORE_ID, np.uint8)
    labels[1::3, 1::3] = result.answer.labels
    calibrator = Calibrator(own, street)
    calibrator.add(sample._replace(labels=labels))
    # The network's own answers: all right, so that the confidence rises.
    assert calibrator.fit().temperature < 1


def test_profile_is_printed_and_written_when_it_is_asked_for(
    own: ModelManifest, capsys: pytest.CaptureFixture[str]
) -> None:
    before = own.path.read_bytes()
    command = ["models", "profile", str(own.path), "--dataset", "street", "--split", "", *STREET]
    command += ["--engine", "torch", "--precision", "fp32"]
    main(command)
    out = capsys.readouterr().out
    assert "own on street, 3 frames, engine torch fp32" in out
    assert "expected calibration error" in out
    assert own.path.read_bytes() == before
    main([*command, "--write"])
    written = read_manifest(own.path)
    assert written.profile is not None
    assert (written.profile.data, written.profile.frames) == ("street", 3)
    assert sum(written.profile.shares) == pytest.approx(1, abs=1e-3)
    assert written.temperature > 1.5
    assert replace(written, profile=None, temperature=1.0) == own


def test_a_folder_of_images_has_a_profile_and_leaves_the_temperature(
    own: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    street = Street(2, 1, 100, 96, 64)
    (tmp_path / "frames").mkdir()
    for i in range(2):
        write_picture(tmp_path / "frames" / f"{i}.png", street[i].image)
    command = ["models", "profile", str(own.path), "--images", str(tmp_path / "frames"), "--write"]
    main([*command, "--engine", "torch", "--precision", "fp32"])
    said = capsys.readouterr()
    assert "expected calibration error" not in said.out
    assert "2 frames are few: what is usual varies more than they show; take 30 or more" in said.err
    written = read_manifest(own.path)
    assert written.profile is not None
    assert (written.profile.data, written.profile.frames, written.temperature) == ("frames", 2, 1.0)
    assert main([*command, "--dataset", "street", "--option", "scenes=2"]) == 2
    assert "--images takes the place of a data set: leave out --dataset, --option" in capsys.readouterr().err
    (tmp_path / "frames" / "1.png").unlink()
    assert main([*command, "--engine", "torch", "--precision", "fp32"]) == 2
    assert "needs two frames or more, frames has 1" in capsys.readouterr().err


@pytest.mark.parametrize("shift_px", [0, 48])
def test_frames_that_are_no_sequence_are_said(
    own: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str], shift_px: int
) -> None:
    image = Street(1, 1, 100, 96, 64)[0].image
    (tmp_path / "frames").mkdir()
    for i in range(2):
        write_picture(tmp_path / "frames" / f"{i}.png", np.roll(image, i * shift_px, axis=1))
    command = ["models", "profile", str(own.path), "--images", str(tmp_path / "frames")]
    main([*command, "--engine", "torch", "--precision", "fp32"])
    said = capsys.readouterr().err
    assert ("of the pixels change, as where the frames are no sequence" in said) == (shift_px > 0)
