"""The networks: size, cost, any input size, options and names."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
import torch
from torch import nn

from rt_segmentation.networks import NETWORKS, NetworkError, build_network
from rt_segmentation.networks.complexity import count_gmacs, count_parameters

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("linknet", {}),
    ("linknet", {"bypass": False}),
    ("linknet", {"upsampling": "sub_pixel"}),
    ("enet", {}),
    ("enet_encoder", {}),
    ("lednet", {}),
    ("lednet", {"decoder": "heavy"}),
    ("lednet", {"apn": "paper"}),
    ("lednet", {"decoder": "heavy", "apn": "paper"}),
    ("lednet", {"apn": "factorized"}),
    ("lednet", {"decoder": "heavy", "apn": "factorized"}),
    ("segnet", {}),
]


def variant_name(value: Any) -> str | None:
    """Ids of options; pytest makes those of other values."""
    if not isinstance(value, dict):
        return None
    return ",".join(f"{key}={option}" for key, option in value.items()) or "default"


every_variant = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=variant_name)


def build(name: str, num_classes: int = 5, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_network(name, num_classes, **options).eval()


def randomise_statistics(network: nn.Module) -> nn.Module:
    """Batch norms as after a training: an identity would hide what is swapped around them."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(0.1 * torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(1 + 0.2 * torch.rand(module.num_features, generator=generator))
    return network


@pytest.mark.parametrize(
    ("name", "num_classes", "options", "expected"),
    [
        ("linknet", 19, {}, 11_535_699),
        ("enet", 12, {}, 363_412 + 65 * 12),
        ("enet", 19, {}, 363_412 + 65 * 19),
        ("enet", 20, {}, 364_712),
        ("lednet", 20, {}, 925_663),
        ("lednet", 20, {"decoder": "heavy"}, 2_288_140),
    ],
    ids=variant_name,
)
def test_parameters(name: str, num_classes: int, options: dict[str, Any], expected: int) -> None:
    assert count_parameters(build_network(name, num_classes, **options)) == expected


def test_segnet_has_the_papers_size() -> None:
    assert 29.4e6 < count_parameters(build_network("segnet", 12)) < 29.5e6


@pytest.mark.parametrize(
    ("name", "num_classes", "options", "width", "height", "expected"),
    [
        ("linknet", 19, {}, 640, 384, 10.196),
        ("enet", 12, {}, 640, 360, 1.698),
        ("enet", 12, {}, 480, 360, 1.273),
        ("enet", 20, {}, 1024, 512, 3.930),
        ("lednet", 20, {}, 1024, 512, 11.2095),
        ("lednet", 20, {"decoder": "heavy"}, 1024, 512, 13.0762),
    ],
    ids=variant_name,
)
def test_gmacs(
    name: str, num_classes: int, options: dict[str, Any], width: int, height: int, expected: float
) -> None:
    found = count_gmacs(build_network(name, num_classes, **options), width, height)
    assert found == pytest.approx(expected, abs=0.5 * 10 ** -(4 if name == "lednet" else 3))


def test_counting_leaves_the_network_as_it_was() -> None:
    network = build_network("enet", 3).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    count_gmacs(network, 64, 64)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@every_variant
@pytest.mark.parametrize(("width", "height"), [(32, 32), (47, 33), (33, 47)])
def test_small_and_odd_sizes(name: str, options: dict[str, Any], width: int, height: int) -> None:
    with torch.inference_mode():
        logits = build(name, **options)(torch.rand(2, 3, height, width))
    assert logits.shape == (2, 5, height, width)
    assert torch.isfinite(logits).all()


@every_variant
@pytest.mark.parametrize(("width", "height"), [(641, 359), (640, 360)])
def test_shapes_of_camera_sizes(name: str, options: dict[str, Any], width: int, height: int) -> None:
    network = build(name, **options).to("meta")
    with torch.no_grad():
        logits = network(torch.empty(1, 3, height, width, device="meta"))
    assert logits.shape == (1, 5, height, width)


@pytest.mark.parametrize("name", ["linknet", "enet", "lednet"])
def test_an_odd_camera_size_is_computed(name: str) -> None:
    with torch.inference_mode():
        logits = build(name)(torch.rand(1, 3, 359, 641))
    assert logits.shape == (1, 5, 359, 641)
    assert torch.isfinite(logits).all()


@every_variant
def test_an_image_alone_gives_what_it_gives_in_a_batch(name: str, options: dict[str, Any]) -> None:
    # In float64: how far rounding in float32 goes differs by processor.
    network = randomise_statistics(build(name, **options)).double()
    noise = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(2)).double()
    # Far apart: LinkNet with random weights and without its bypass hardly tells noise from noise.
    images = noise * torch.tensor([1.0, 1e4, -1e4]).view(3, 1, 1, 1)
    with torch.inference_mode():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(together[0], together[1])


@every_variant
def test_padding_is_at_the_right_and_the_bottom(name: str, options: dict[str, Any]) -> None:
    network = randomise_statistics(build(name, **options))
    multiple: Any = network.multiple
    height, width = 32 + multiple - 3, 32 + multiple - 5
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3))
    padded = torch.nn.functional.pad(image, (0, -width % multiple, 0, -height % multiple))
    with torch.inference_mode():
        torch.testing.assert_close(network(image), network(padded)[..., :height, :width])


def resnet18_state_dict() -> dict[str, torch.Tensor]:
    """Names and shapes of torchvision's ResNet-18."""

    def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.{key}": (channels,) for key in ("weight", "bias", "running_mean", "running_var")}

    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    channels_in = 64
    for layer, channels in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name = f"layer{layer}.{block}"
            first_in = channels_in if block == 0 else channels
            shapes[f"{name}.conv1.weight"] = (channels, first_in, 3, 3)
            shapes[f"{name}.conv2.weight"] = (channels, channels, 3, 3)
            shapes.update({**norm(f"{name}.bn1", channels), **norm(f"{name}.bn2", channels)})
            if layer > 1 and block == 0:
                shapes[f"{name}.downsample.0.weight"] = (channels, first_in, 1, 1)
                shapes.update(norm(f"{name}.downsample.1", channels))
        channels_in = channels
    shapes.update({"fc.weight": (1000, 512), "fc.bias": (1000,)})
    return {key: torch.rand(shape) for key, shape in shapes.items()}


def test_linknets_encoder_takes_resnet18_by_name() -> None:
    state = resnet18_state_dict()
    network = build("linknet")
    result = network.load_state_dict(state, strict=False)
    assert set(result.unexpected_keys) == {"fc.weight", "fc.bias"}
    encoder = {key for key in network.state_dict() if not key.startswith(("decoder", "head", "classifier"))}
    assert encoder - set(state) == {key for key in encoder if key.endswith("num_batches_tracked")}
    assert torch.equal(network.layer3[0].downsample[0].weight, state["layer3.0.downsample.0.weight"])


@pytest.mark.parametrize("bypass", [True, False])
def test_bypass_is_the_only_other_way_to_the_decoder(bypass: bool) -> None:
    network = build("linknet", bypass=bypass)
    network.layer4.register_forward_hook(lambda module, inputs, output: torch.ones_like(output))
    with torch.inference_mode():
        first, second = network(torch.rand(1, 3, 64, 64)), network(torch.rand(1, 3, 64, 64))
    assert torch.equal(first, second) is not bypass


def test_sub_pixel_has_no_full_convolution() -> None:
    transposed, sub_pixel = build("linknet"), build("linknet", upsampling="sub_pixel")

    def kinds(network: nn.Module) -> set[str]:
        return {type(module).__name__ for module in network.modules()}

    assert "ConvTranspose2d" in kinds(transposed) and "PixelShuffle" not in kinds(transposed)
    assert "ConvTranspose2d" not in kinds(sub_pixel) and "PixelShuffle" in kinds(sub_pixel)
    assert count_parameters(sub_pixel) > count_parameters(transposed)


def test_enet_takes_its_encoders_weights_by_name() -> None:
    encoder, network = build("enet_encoder", num_classes=7), build("enet")
    weights = {key: value for key, value in encoder.state_dict().items() if key.startswith("encoder.")}
    assert {key for key in network.state_dict() if key.startswith("encoder.")} == set(weights)
    assert not network.load_state_dict(weights, strict=False).unexpected_keys


def test_the_encoders_logits_are_one_a_region() -> None:
    network = build("enet_encoder")
    images = torch.rand(1, 3, 40, 44)
    with torch.inference_mode():
        coarse, logits = network.forward_coarse(images), network(images)
    assert coarse.shape == (1, 5, 5, 6)
    assert torch.equal(logits[..., 8:16, 16:24], coarse[..., 1:2, 2:3].expand(-1, -1, 8, 8))


def test_lednets_code_cannot_give_negative_logits_the_papers_can() -> None:
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert randomise_statistics(build("lednet"))(images).min() >= 0
        assert randomise_statistics(build("lednet", apn="paper"))(images).min() < 0


def test_lednets_paper_kernels() -> None:
    kernels = {apn: build("lednet", apn=apn).apn.down1[0].kernel_size for apn in ("code", "paper")}
    assert kernels == {"code": (7, 7), "paper": (3, 3)}


@pytest.mark.parametrize("decoder", ["light", "heavy"])
def test_lednets_factorized_pyramid_is_of_1d_convolutions_and_smaller(decoder: str) -> None:
    code, factorized = (build("lednet", decoder=decoder, apn=apn) for apn in ("code", "factorized"))
    kernels = {m.kernel_size for m in factorized.apn.modules() if isinstance(m, nn.Conv2d)}
    assert kernels >= {(7, 1), (1, 7), (5, 1), (1, 5), (3, 1), (1, 3)}
    assert all(min(kernel) == 1 for kernel in kernels)
    assert count_parameters(factorized) < count_parameters(code)
    assert count_gmacs(factorized, 480, 360) < count_gmacs(code, 480, 360)


@pytest.mark.parametrize(
    ("name", "num_classes", "options", "words"),
    [
        ("unet", 5, {}, ["unknown network 'unet'", *NETWORKS]),
        ("linknet", 5, {"skip": True}, ["'linknet'", "'skip'", "bypass, upsampling"]),
        ("segnet", 5, {"bypass": True}, ["'segnet'", "'bypass'", "none"]),
        ("linknet", 5, {"upsampling": "nearest"}, ["'nearest'", "'transposed'", "'sub_pixel'"]),
        ("lednet", 5, {"decoder": "huge"}, ["'huge'", "'light'", "'heavy'"]),
        ("lednet", 5, {"apn": "old"}, ["'old'", "'code'", "'paper'", "'factorized'"]),
        ("enet", 0, {}, ["at least 1 class", "0"]),
    ],
    ids=variant_name,
)
def test_a_wrong_name_or_option_is_named(
    name: str, num_classes: int, options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(NetworkError) as caught:
        build_network(name, num_classes, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
