"""How a batch of frames looks: light, camera and weather, computed on the frames' device.

The formulas are those of `rt_segmentation.data.appearance` and `mixing`. Pixels are float32 (N, 3, H, W) from
0 to 255, and amounts by frame are (N, 1).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from rt_segmentation.data.appearance import LUMA

SHADOW_EDGE_PX = 5.0
LUMINANCE_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantisation of the luminance's frequencies at quality 50 (ITU-T T.81, Table K.1)."""
CHROMINANCE_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
"""The same of the two colour differences (Table K.2)."""
TO_YCBCR = (LUMA, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
FROM_YCBCR = tuple(map(tuple, np.linalg.inv(np.array(TO_YCBCR)).tolist()))
BLOCK = 8
COSINES = tuple(
    tuple(
        math.sqrt((1 if k else 0.5) * 2 / BLOCK) * math.cos(math.pi * k * (2 * x + 1) / (2 * BLOCK))
        for x in range(BLOCK)
    )
    for k in range(BLOCK)
)
"""The orthonormal cosine transform of a row, by frequency and place."""


def recolor(pixels: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Change brightness, contrast and saturation by (N, 3) factors."""
    brightness, contrast, saturation = (f.view(-1, 1, 1, 1) for f in factors.unbind(1))
    gray = luma(pixels)
    mean = gray.mean((2, 3), keepdim=True)
    saturated = (pixels - gray) * saturation + gray
    return (((saturated - mean) * contrast + mean) * brightness).clamp(0, 255)


def luma(pixels: torch.Tensor) -> torch.Tensor:
    """Gray of a batch, (N, 1, H, W)."""
    red, green, blue = (plane[:, None] for plane in pixels.unbind(1))
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def tone(
    pixels: torch.Tensor, matrices: torch.Tensor, gains: torch.Tensor, exponents: torch.Tensor
) -> torch.Tensor:
    """Multiply RGB by (N, 9) matrices, raise to (N, 1) exponents and multiply by (N, 3) gains."""
    turned = torch.einsum("nij,njhw->nihw", matrices.view(-1, 3, 3), pixels).clamp(0, 255)
    curved = (turned / 255) ** exponents.view(-1, 1, 1, 1)
    return (255 * curved * gains.view(-1, 3, 1, 1)).clamp(0, 255)


def light(
    pixels: torch.Tensor, shadows: torch.Tensor, darkening: torch.Tensor, fog: torch.Tensor
) -> torch.Tensor:
    """Lay a shadow, a vignette and fog over the frames; see `Draws` for the amounts."""
    height, width = pixels.shape[2:]
    x = torch.arange(width, device=pixels.device, dtype=pixels.dtype)
    y = torch.arange(height, device=pixels.device, dtype=pixels.dtype)[:, None]
    a, b, c = (part[..., None, None] for part in shadows[:, 1:].view(len(pixels), -1, 3).unbind(2))
    inside = (a * x + b * y + c).amin(1, keepdim=True)
    share = (inside / SHADOW_EDGE_PX + 0.5).clamp(0, 1)
    factors = 1 - share * (1 - shadows[:, 0].view(-1, 1, 1, 1))
    across, down = (
        torch.linspace(-1, 1, width, device=pixels.device),
        torch.linspace(-1, 1, height, device=pixels.device),
    )
    factors = factors * (1 - darkening.view(-1, 1, 1, 1) * (across**2 + down[:, None] ** 2) / 2)
    thickness, gray = (part.view(-1, 1, 1, 1) for part in fog.unbind(1))
    haze = thickness * (1 - y / max(1, height - 1))
    return pixels * factors * (1 - haze) + haze * gray


def blur(pixels: torch.Tensor, deviations: torch.Tensor, most: float) -> torch.Tensor:
    """Blur by Gaussians of (N, 1) standard deviations of at most `most` [px]; 0 is without."""
    reach = max(1, round(3 * most))
    offsets = torch.arange(-reach, reach + 1, device=pixels.device, dtype=pixels.dtype)
    weights = torch.exp(-(offsets**2) / (2 * deviations.clamp(min=1e-3) ** 2))
    kernels = (weights / weights.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None, None]
    planes = _mirrored(_mirrored(pixels, 2, reach), 3, reach).flatten(0, 1)[None]
    rows = F.conv2d(planes, kernels, groups=len(kernels))
    return F.conv2d(rows, kernels.transpose(2, 3), groups=len(kernels)).view(pixels.shape)


def _mirrored(pixels: torch.Tensor, axis: int, reach: int) -> torch.Tensor:
    """Pixels with their mirror image on both sides of an axis, again and again where they are fewer.

    The pixel at the edge is not repeated, as in OpenCV's BORDER_REFLECT_101; PyTorch's own has one image.
    """
    size = pixels.shape[axis]
    places = torch.arange(-reach, size + reach, device=pixels.device) % max(1, 2 * (size - 1))
    return pixels.index_select(axis, torch.minimum(places, (2 * (size - 1) - places).abs()))


def add_noise(pixels: torch.Tensor, deviations: torch.Tensor) -> torch.Tensor:
    """Add normal noise of (N, 1) standard deviations [gray levels]."""
    return (pixels + torch.randn_like(pixels) * deviations.view(-1, 1, 1, 1)).clamp(0, 255)


def jpeg(pixels: torch.Tensor, qualities: torch.Tensor) -> torch.Tensor:
    """What baseline JPEG leaves of the frames, at (N, 1) qualities; frames of quality 0 stay as they are.

    Colours are halved along both sides, as most encoders do. The tables are scaled as libjpeg scales them.
    """
    height, width = pixels.shape[2:]
    padded = F.pad(pixels, (0, -width % (2 * BLOCK), 0, -height % (2 * BLOCK)), mode="replicate")
    components = torch.einsum("ij,njhw->nihw", _constant(TO_YCBCR, pixels.device), padded)
    halved = F.avg_pool2d(components[:, 1:], 2)
    quality = qualities.clamp(min=1).view(-1, 1, 1, 1, 1, 1)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    gray = _quantise(components[:, :1] - 128, LUMINANCE_STEPS, scale) + 128
    colors = F.interpolate(_quantise(halved, CHROMINANCE_STEPS, scale), scale_factor=2.0, mode="bilinear")
    decoded = torch.einsum(
        "ij,njhw->nihw", _constant(FROM_YCBCR, pixels.device), torch.cat((gray, colors), 1)
    )
    decoded = decoded[..., :height, :width].round().clamp(0, 255)
    return torch.where(qualities.view(-1, 1, 1, 1) > 0, decoded, pixels)


def _quantise(planes: torch.Tensor, table: tuple[tuple[int, ...], ...], scale: torch.Tensor) -> torch.Tensor:
    """Round the cosine transform of each block of 8x8 of (N, C, H, W) to multiples of the table's steps."""
    batch, channels, height, width = planes.shape
    cosines = _constant(COSINES, planes.device)
    blocks = planes.reshape(batch, channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(3, 4)
    steps = (_constant(table, planes.device) * scale).round().clamp(1, 255)
    rounded = (cosines @ blocks @ cosines.T / steps).round() * steps
    return (cosines.T @ rounded @ cosines).transpose(3, 4).reshape(planes.shape)


def mix_amplitudes(
    pixels: torch.Tensor, others: torch.Tensor, band: float, shares: torch.Tensor
) -> torch.Tensor:
    """Take over (N, 1) shares of the amplitudes that other frames have at the lowest frequencies.

    See `rt_segmentation.data.mixing.mix_amplitudes`, whose result this is.
    """
    height, width = pixels.shape[2:]
    reach = max(1, int(band * min(height, width)))
    rows = _waves(reach, height, True, pixels.device)
    columns = _waves(min(reach, width // 2), width, False, pixels.device)
    ours, theirs = (rows @ (part.to(columns.dtype) @ columns.T) for part in (pixels, others))
    amplitudes = ours.abs()
    grown = shares.view(-1, 1, 1, 1) * (theirs.abs() - amplitudes) / amplitudes.clamp(min=1e-6)
    along = rows.conj().T @ (ours * grown) * _times(len(columns), width, pixels.device)
    return (pixels + (along @ columns.conj()).real / (height * width)).clamp(0, 255)


@lru_cache
def _constant(rows: tuple[tuple[float, ...], ...], device: torch.device) -> torch.Tensor:
    """A matrix, float32; it is sent once, as nothing may be while passes are recorded."""
    return torch.tensor(rows, dtype=torch.float32, device=device)


@lru_cache
def _times(columns: int, width: int, device: torch.device) -> torch.Tensor:
    """How often each column's frequency counts: it stands for its conjugate too, if it is not its own."""
    times = torch.full((columns,), 2.0)
    times[0] = 1
    if 2 * (columns - 1) == width:
        times[-1] = 1
    return times.to(device)


@lru_cache
def _waves(reach: int, length: int, both: bool, device: torch.device) -> torch.Tensor:
    """Rows of a discrete Fourier transform up to a frequency, of both signs or not, complex64 (K, length)."""
    frequencies = np.arange(-reach if both else 0, reach + 1)
    angles = np.outer(np.unique(frequencies % length), np.arange(length)) % length * (-2 * np.pi / length)
    return torch.from_numpy(np.exp(1j * angles).astype(np.complex64)).to(device)
