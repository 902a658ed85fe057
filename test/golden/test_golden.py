"""The networks, through the importers, against recorded outputs of the authors' implementations."""

from __future__ import annotations

import ast
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from support.seeded import seeded_array, seeded_image

from rt_segmentation.networks import build_network
from rt_segmentation.training.importers import ImportedModel, import_checkpoint


@pytest.fixture(scope="module")
def golden(shared_data: Path) -> Path:
    folder = shared_data / "golden"
    if not folder.is_dir():
        pytest.skip(f"no golden outputs at {folder}")
    return folder


def seeded_state_dict(keys: Path) -> dict[str, torch.Tensor]:
    """The reference state dict: each value follows from its name and shape alone."""
    state = {}
    for line in keys.read_text().splitlines():
        key, shape_text, dtype = line.split("\t")
        shape = ast.literal_eval(shape_text)
        if dtype != "float32":
            state[key] = torch.zeros(shape, dtype=torch.int64)
            continue
        state[key] = torch.from_numpy(seeded_array(key, shape))
    return state


def load(model: ImportedModel) -> torch.nn.Module:
    assert model.num_classes is not None
    network = build_network(model.network, model.num_classes, **model.options).eval()
    problem = network.load_state_dict(
        {k: torch.from_numpy(v) for k, v in model.weights.items()}, strict=False
    )
    assert all(key.endswith("num_batches_tracked") for key in problem.missing_keys)
    assert not problem.unexpected_keys
    return network


def relative_error(found: torch.Tensor, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


def test_linknet_gives_the_authors_logits(golden: Path, tmp_path: Path) -> None:
    torch.save(seeded_state_dict(golden / "elab_pytorch_LinkNetBase.keys.tsv"), tmp_path / "linknet.pth")
    model = import_checkpoint(tmp_path / "linknet.pth", num_classes=12)
    expected = np.load(golden / "seeded_LinkNetBase_c12_96x128.npz")["logits"]
    with torch.inference_mode():
        logits = load(model)(seeded_image(96, 128))
    assert relative_error(logits, expected) < 1e-4


def test_lednet_gives_the_authors_features_and_logits(golden: Path, tmp_path: Path) -> None:
    torch.save(seeded_state_dict(golden / "xiaoyufenfei_lednet_light.keys.tsv"), tmp_path / "lednet.pth")
    model = import_checkpoint(tmp_path / "lednet.pth")
    assert model.options == {"decoder": "light"}
    expected = np.load(golden / "seeded_lednet_light_c20_128x256.npz")
    network = load(model)
    images = seeded_image(128, 256)
    with torch.inference_mode():
        features = network.encoder(images)
        attention = network.apn(features)
        logits = network(images)
    assert relative_error(features, expected["encoder"]) < 1e-4
    assert relative_error(attention, expected["apn"]) < 1e-4
    assert relative_error(logits, expected["upsampled_to_input"]) < 1e-4


@pytest.fixture(scope="module")
def enet_checkpoint(shared_data: Path) -> Path:
    path = shared_data / "checkpoints" / "elab_enet_cityscapes_enet-model.t7"
    if not (path.is_file() and path.with_suffix(".npz").is_file()):
        pytest.skip(f"no checkpoint {path} with its .npz")
    return path


def test_torch7_reader_gives_the_arrays_of_the_npz(enet_checkpoint: Path) -> None:
    from_t7 = import_checkpoint(enet_checkpoint)
    from_npz = import_checkpoint(enet_checkpoint.with_suffix(".npz"))
    assert from_t7.label_set == from_npz.label_set == "cityscapes20"
    assert from_t7.weights.keys() == from_npz.weights.keys()
    for key, value in from_t7.weights.items():
        np.testing.assert_array_equal(value, from_npz.weights[key], err_msg=key)


def test_enet_labels_a_frame_as_the_authors_model(golden: Path, enet_checkpoint: Path) -> None:
    expected = np.load(golden / f"{enet_checkpoint.stem}__camvid_test_0001TP_008550.npz")
    bgr = cv2.imread(str(golden / "0001TP_008550.png"))
    images = torch.from_numpy(bgr[..., ::-1].astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.inference_mode():
        logits = load(import_checkpoint(enet_checkpoint))(images)[0].numpy()
    assert (logits.argmax(0) == expected["argmax"]).mean() >= 0.999
    errors = np.abs(logits[:, ::8, ::8] - expected["logits_s8"])
    # Pooling ties, which implementations break differently, move single pixels a lot: hence the mean.
    assert errors.mean() < 1e-3 * np.abs(expected["logits_s8"]).mean()
