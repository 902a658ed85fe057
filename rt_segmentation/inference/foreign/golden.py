"""Images and the labels that a graph gave them where it came from: every engine must give the same."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rt_segmentation.files import spread
from rt_segmentation.models import ModelError, ModelManifest
from rt_segmentation.weights import read_golden

KEPT = 8
"""So many images are kept; more would make the first start slow."""

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]
"""Images, uint8 (H, W, 3) RGB, each with its labels, uint8 (H, W); all of one size."""


def golden_of(manifest: ModelManifest) -> Pairs:
    """What a model's file has; nothing where it has none.

    Raises:
        ModelError: the file is missing or damaged.
    """
    data = read_golden(manifest)
    if data is None:
        return []
    with np.load(io.BytesIO(data)) as arrays:
        return list(zip(arrays["images"], arrays["labels"]))


def read_arrays(path: Path) -> Pairs:
    """Read an .npz of a user's: `images`, uint8 (N, H, W, 3) RGB, and `labels`, integers (N, H, W).

    Raises:
        ModelError: it is no such file; the message says what is wrong.
    """
    how = "it must be an .npz with images, uint8 (N, H, W, 3) RGB, and labels, integers (N, H, W)"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except OSError as error:
        raise ModelError(f"golden file {path} cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise ModelError(f"golden file {path} lacks an array ({error.args[0]}); {how}") from error
    except Exception as error:
        # NumPy, zipfile and zlib each have their own.
        raise ModelError(f"golden file {path} cannot be read ({error}); {how}") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
        raise ModelError(f"golden file {path} has images {images.dtype} {images.shape}; {how}")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:3]:
        raise ModelError(f"golden file {path} has labels {labels.dtype} {labels.shape}; {how}")
    return [(image, check_labels(ids, str(path))) for image, ids in zip(images, labels)]


def check_labels(labels: np.ndarray, where: str) -> np.ndarray:
    """The labels as uint8.

    Raises:
        ModelError: one is not from 0 to 255.
    """
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= 255:
        raise ModelError(f"{where} has labels from {labels.min()} to {labels.max()}; ids go from 0 to 255")
    return labels.astype(np.uint8)


def kept(pairs: Pairs) -> bytes:
    """The .npz that lies beside a model: `KEPT` of the pairs, evenly spread."""
    chosen = spread(pairs, KEPT)
    content = io.BytesIO()
    np.savez_compressed(
        content, images=np.stack([image for image, _ in chosen]), labels=np.stack([ids for _, ids in chosen])
    )
    return content.getvalue()


def one_size(pairs: Pairs, where: str) -> tuple[int, int]:
    """(width, height) of all images [px].

    Raises:
        ModelError: they differ, or an image and its labels do; or there are none.
    """
    if not pairs:
        raise ModelError(f"{where} has no images")
    sizes = {array.shape[1::-1] for pair in pairs for array in pair}
    if len(sizes) > 1:
        (first, second, *_) = (f"{width}x{height}" for width, height in sorted(sizes))
        raise ModelError(
            f"{where} has images or labels of {first} and of {second}; all must have the size at which the"
            " network sees them"
        )
    (size,) = sizes
    return int(size[0]), int(size[1])
