"""What ships for kinds of processors: it is used on those, for what was measured, and nowhere else."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from rt_segmentation import cpu
from rt_segmentation.inference import shipped
from rt_segmentation.inference.engines import build_engine, choosing
from rt_segmentation.inference.options import PLAIN, Options
from rt_segmentation.inference.tuned import options_for
from rt_segmentation.models import ModelManifest, Score, find_model

SIZE = (1, 48, 64)
IN_FP32 = Score("mean_iou", "camvid", "val", 0.7, 480, 360)


def test_what_ships_is_for_the_processors_that_it_was_measured_on(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def options(network: str, precision: str) -> Options:
        return options_for(replace(small_model, network=network), "openvino", precision, *SIZE, 1)

    words = {"avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"}
    monkeypatch.setattr(cpu, "_words", lambda: words)
    assert options("enet", "int8") == Options(kernels=(("*", "jit_avx512"),), whole=True)
    assert options("lednet", "int8") == Options(bytes_between=True, whole=True)
    assert options("enet", "fp32") == options("linknet", "int8") == PLAIN
    words.remove("amx_int8")
    assert cpu.kind() == "" and options("enet", "int8") == options("lednet", "int8") == PLAIN
    words.remove("avx512_bf16")
    assert cpu.kind() == "avx512_vnni"
    assert options("enet", "int8") == Options(kernels=(("*", "jit_avx512"),))
    assert options("lednet", "int8") == Options(kernels=(("*", "jit_avx512"),), bytes_between=True)
    assert options("lednet", "fp32") == PLAIN
    words.remove("avx512_vnni")
    assert cpu.kind() == "" and options("lednet", "int8") == PLAIN
    words.remove("avx512f")
    words.add("avx2")
    assert cpu.kind() == "avx2"
    assert options("lednet", "int8") == Options(bytes_between=True) and options("enet", "int8") == PLAIN
    words.add("avx_vnni")
    assert cpu.kind() == ""


def candidates(manifest: ModelManifest, *names: str, precision: str = "auto") -> list[tuple[str, str]]:
    return [one.key for one in choosing._defaults(manifest, names, precision)]


@pytest.fixture()
def on_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_words", lambda: {"avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"})


@pytest.mark.usefixtures("on_amx")
def test_auto_begins_with_int8_where_it_is_fastest_and_costs_nothing(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_int8 = replace(IN_FP32, value=0.696, precision="int8")
    model = replace(small_model, network="enet", scores=(IN_FP32, in_int8))
    assert candidates(model, "openvino", "torch")[0] == ("openvino", "int8")
    assert ("openvino", "int8") not in candidates(model, "openvino", precision="fp32")
    # On a computer with a GPU that has its turn.
    assert candidates(model, "torch", "openvino").index(("torch", "fp32")) == 0
    monkeypatch.setattr(cpu, "_words", lambda: {"asimd"})
    assert ("openvino", "int8") not in candidates(model, "openvino")


@pytest.mark.usefixtures("on_amx")
@pytest.mark.parametrize(
    "scores",
    [
        (),
        (IN_FP32,),
        (replace(IN_FP32, precision="int8"),),
        (IN_FP32, replace(IN_FP32, value=0.694, precision="int8")),
        (IN_FP32, replace(IN_FP32, dataset="street", precision="int8")),
        (IN_FP32, replace(IN_FP32, width=640, precision="int8")),
        (replace(IN_FP32, metric="accuracy"), replace(IN_FP32, metric="accuracy", precision="int8")),
    ],
    ids=["none", "fp32 alone", "int8 alone", "costs more", "other data", "other size", "other metric"],
)
def test_auto_does_not_mean_int8_where_nobody_knows_what_it_costs(
    small_model: ModelManifest, scores: tuple[Score, ...]
) -> None:
    model = replace(small_model, network="enet", scores=scores)
    assert ("openvino", "int8") not in candidates(model, "openvino")


@pytest.mark.usefixtures("on_amx")
@pytest.mark.parametrize("name", ["enet", "lednet", "linknet"])
def test_the_short_names_begin_with_int8(name: str) -> None:
    first = next(choosing._defaults(find_model(name), ("openvino",), "auto"))
    assert first.key == ("openvino", "int8")
    assert first.reason.startswith("fastest on processors with amx_int8, for 0.")


def test_a_model_without_ranges_runs_in_another_precision(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(shipped, "fastest", lambda _: [("openvino", "int8", "for a test")])
    engine = build_engine(small_model)
    assert (engine.name, engine.warnings) == ("openvino", ()) and engine.precision != "int8"
    assert "has no int8 ranges" in caplog.text


def test_a_damaged_file_is_said_and_nothing_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / shipped.FILE).write_text("first: [{processor: amx_int8}]\n")
    monkeypatch.setattr(shipped, "share_dir", lambda: tmp_path)
    contents = shipped.contents.__wrapped__()
    assert contents == shipped.Shipped() and "kernels.yaml" in caplog.text
