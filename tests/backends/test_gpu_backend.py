"""The Triton kernels: interpreted on the CPU, compiled without a device, and on a GPU where there is one."""

import json
import os
import re
import subprocess
import sys

import pytest
from cauchy_problems import ROUNDINGS
from locations import HANG, TESTS

if sys.platform != "linux":
    pytest.skip("Triton exists for Linux only", allow_module_level=True)

from kernel_values import KINDS, ROUNDED, TIGHT, UNUSUAL, as_launched, cases, operator_error, operator_rounding

SCRIPT = str(TESTS / "support" / "kernel_values.py")


@pytest.fixture(scope="session")
def answers() -> dict[str, object]:
    path = os.pathsep.join([str(TESTS / "support"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    # warnings are errors because the interpreter's sum leaves out what is not a number, where a GPU does not
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", SCRIPT], env=environment, capture_output=True, text=True, timeout=HANG
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", [*cases(), *as_launched()])
def test_interpreted_kernels_equal_the_reference(answers, name: str) -> None:
    assert answers["roundings"][name] < ROUNDINGS


@pytest.mark.parametrize("name", TIGHT)
def test_interpreted_kernels_are_close_to_the_largest_value_in_float64(answers, name: str) -> None:
    assert answers["relative"][name] < TIGHT[name]


@pytest.mark.parametrize("name", UNUSUAL)
def test_interpreted_kernels_take_unusual_arguments(answers, name: str) -> None:
    assert answers[name] == UNUSUAL[name]


def test_the_interpreter_stands_in_for_a_gpu_and_needs_no_numba(answers) -> None:
    assert answers["loaded"]
    assert not answers["numba"]


@pytest.mark.parametrize("ones", [(), ("M",), ("N",), ("M", "N", "F")], ids="-".join)
@pytest.mark.parametrize("name", ["_sums", "_adjoint_sums"])
@pytest.mark.parametrize(("kind", "other"), [("fp32", "f64"), ("fp64", "f32")])
def test_kernels_compile_without_a_device_and_keep_precision_and_wide_offsets(name, kind, other, ones, tmp_path, monkeypatch) -> None:
    from triton import compile as translate
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ssmspec.backends import gpu

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(gpu, name)
    constants = {part: getattr(gpu, part) for part in kernel.arg_names if part.isupper() and len(part) > 1}
    constants |= dict.fromkeys(ones, 1)  # as a launch does for integers equal to 1
    signature = {part: "i32" if part in ("M", "N", "F", "row") else f"*{kind}" for part in kernel.arg_names}
    source = ASTSource(kernel, signature | dict.fromkeys(constants, "constexpr"), constants)
    found = translate(source, target=GPUTarget("cuda", 80, 32), options=gpu.LAUNCH).asm
    assert f".{kind.replace('p', '')}" in found["ptx"]
    assert f".{other}" not in found["ptx"]
    narrow = [line for line in found["ttir"].splitlines() if "arith.muli" in line and re.search(r": i32\b|xi32>", line)]
    assert all(re.search(r"%c\d+_i32", line) for line in narrow), "a product of sizes, which may exceed 32 bits"


@pytest.fixture
def device() -> str:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    return "cuda"


@pytest.mark.gpu
@pytest.mark.parametrize("damping", ROUNDED)
def test_the_operator_rounds_on_a_gpu_what_it_rounds_on_the_cpu(damping: float, device: str) -> None:
    assert operator_rounding(damping, device) < ROUNDED[damping]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_of_torch_equals_that_of_the_cpu_on_a_gpu(kind: str, device: str) -> None:
    assert operator_error(kind, device) <= 2 * ROUNDINGS
