"""What a search tries in each engine, and on which processor."""

from __future__ import annotations

import pytest
from support.fake_bench import INT8, FakeBench

from rt_segmentation.benchmark.search import Search
from rt_segmentation.benchmark.steps import kernel_families


@pytest.mark.parametrize(
    ("arithmetic", "expected"),
    [
        ((), ()),
        (("avx", "avx2", "fma"), ()),
        (("avx2", "avx_vnni"), ("brgconv_avx2", "jit_avx2")),
        (("avx2", "avx512f", "avx512_vnni"), ("jit_avx512", "brgconv_avx512", "jit_avx2")),
        (("avx512f", "amx_int8"), ("jit_avx512", "brgconv_avx512", "brgconv_avx512_amx", "jit_avx2")),
    ],
)
def test_kernels_that_the_processor_cannot_run_are_not_tried(
    arithmetic: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert kernel_families(arithmetic) == expected
    tried = Search(FakeBench(lambda variant: 10.0), 2, families=kernel_families(arithmetic)).run([INT8]).tried
    named = {trial.what.split()[2] for trial in tried if "every convolution" in trial.what}
    assert named == set(expected)


@pytest.mark.parametrize(
    ("precision", "arithmetic", "tried"),
    [
        ("int8", ("avx512f", "amx_int8"), True),
        ("bf16", ("avx512f", "amx_int8"), False),
        ("bf16", ("avx512f",), True),
        ("fp32", ("avx512f",), False),
    ],
)
def test_kernels_are_tried_where_openvino_heeds_wishes(
    precision: str, arithmetic: tuple[str, ...], tried: bool
) -> None:
    search = Search(FakeBench(lambda variant: 10.0), 2, families=kernel_families(arithmetic))
    what = [trial.what for trial in search.run([("openvino", precision)]).tried]
    assert any("convolution" in one and "jit" in one for one in what) == tried


def test_bf16_is_tried_with_instruction_sets_that_have_it() -> None:
    sets = ("AVX512_CORE_BF16", "AVX512_CORE_VNNI", "AVX2")
    found = Search(FakeBench(lambda variant: 10.0), 2, sets).run([("openvino", "bf16"), INT8])
    tried = {(trial.of, one) for trial in found.tried for one in sets if one in trial.what}
    assert tried == {("openvino bf16", sets[0]), *(("openvino int8", one) for one in sets)}


def test_each_engine_is_searched_in_what_it_has() -> None:
    bench = FakeBench(lambda variant: 10.0, noise=0)
    found = Search(bench, 2).run([("onnxruntime", "fp32"), ("torch", "fp32")])
    tried = [trial.what for trial in found.tried]
    assert [what for what in tried if what.startswith("torch")] == [
        "torch fp32: 1 thread for each frame",
        "torch fp32: contiguous layout",
    ]
    assert [what for what in tried if what.startswith("onnxruntime fp32: ")] == [
        "onnxruntime fp32: 1 thread for each frame",
        "onnxruntime fp32: parallel execution",
        "onnxruntime fp32: threads that sleep while they wait",
        "onnxruntime fp32: no denormal numbers",
        "onnxruntime fp32: extended optimisation",
        "onnxruntime fp32: basic optimisation",
    ]
    assert not any("openvino" in what or "pinned" in what for what in tried)
