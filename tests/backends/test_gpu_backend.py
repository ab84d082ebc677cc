"""The Triton kernels: interpreted on the CPU, compiled without a device, and on a GPU where there is one.

Run as a script with TRITON_INTERPRET=1, this file prints as JSON what the interpreted kernels computed; the tests start it once.
"""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from cauchy_problems import EXTREMES, ROUNDINGS, conditioning, differences, double, extreme, problem, single
from locations import HANG, TESTS

from ssmspec.backends import load_backend

linux = pytest.mark.skipif(sys.platform != "linux", reason="Triton exists for Linux only")

# K, M, N, F and the rows of the nodes; awkward beside tiles of 4 sums x 64 frequencies and 4 poles x 32 nodes, so that every mask is met
SIZES = [
    *((1, 1, 1, 1, 1), (5, 1, 3, 67, 1), (1, 4, 64, 67, 1), (1, 4, 3, 300, 1)),
    *((5, 1, 1, 300, 5), (3, 5, 3, 65, 3), (2, 3, 5, 64, 2), (1, 2, 4, 32, 1)),
]
# With the tiles that a GPU gets. An interpreted program takes 20 ms, so K = 257 and F = 33753 of test_backends are left to a GPU.
AS_LAUNCHED = [(1, 1, 3, 1023, 1), (1, 1, 64, 1, 1), (2, 1, 64, 513, 2), (1, 5, 3, 129, 1), (17, 1, 1, 1, 1)]
KINDS = {"float32": single, "float64": double}


def as_launched() -> dict[str, tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(8)
    problems = {"x".join(map(str, size)): problem(rng, size[:4], size[4]) for size in AS_LAUNCHED}
    return {f"as launched {name} {kind}": convert(arguments) for name, arguments in problems.items() for kind, convert in KINDS.items()}


def cases() -> dict[str, tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(7)
    problems = {"x".join(map(str, size)): problem(rng, size[:4], size[4]) for size in SIZES}
    problems |= {name: extreme(pole, points=9) for name, pole in EXTREMES.items()}
    tiny = problem(rng, (2, 2, 3, 7))
    problems |= {f"residues of {size:g}": (tiny[0] * size, *tiny[1:]) for size in (1e-30, 1e30)}
    return {f"{name} {kind}": convert(arguments) for name, arguments in problems.items() for kind, convert in KINDS.items()}


def interpreted() -> dict[str, object]:
    """What the kernels give in the interpreter: the errors of every case, and the results for unusual arguments."""
    import torch

    from ssmspec.backends import gpu

    found = {name: differences(gpu, arguments) for name, arguments in as_launched().items()}
    gpu.FREQUENCIES, gpu.NODES = 64, 32
    problems = cases()
    found |= {name: differences(gpu, arguments) for name, arguments in problems.items()}

    spoilt = [part.copy() for part in problems["5x1x3x67x1 float64"]]
    spoilt[1][1] = np.nan
    infinite = np.isnan(gpu.cauchy_sum(*spoilt[:4])).all(axis=(1, 2)), np.isnan(gpu.cauchy_vjp(*spoilt)[1]).all(axis=1)

    plain = [torch.from_numpy(part) for part in problems["2x3x5x64x2 float64"]]
    views = [(part.conj().resolve_conj().conj() if part.is_complex() else torch.complex(part, -part).conj().imag) for part in plain]
    strided = [torch.stack([part, part], -1)[..., 0] for part in plain]
    results = [(gpu.tensor_sum(*parts[:4]), *gpu.tensor_vjp(*parts)) for parts in (plain, views, strided)]

    rounded = plain[4].to(torch.complex64)
    seeded = [gpu.tensor_vjp(*plain[:4], seeds) for seeds in (rounded, rounded.to(torch.complex128))]

    empty = [problem(np.random.default_rng(), size) for size in ((0, 1, 2, 3), (1, 0, 2, 3), (1, 2, 0, 3), (1, 2, 3, 0))]
    nothing = [(gpu.cauchy_sum(*parts[:4]), *gpu.cauchy_vjp(*parts)) for parts in empty]
    return {
        "roundings": {name: max(float((error / unit).max()) for error, _, unit in parts) for name, parts in found.items()},
        "relative": {name: max(float(error.max() / np.abs(wanted).max()) for error, wanted, _ in parts) for name, parts in found.items()},
        "copies that are nan": [rows.tolist() for rows in infinite],
        "views and strides agree": all(torch.equal(first, other[i]) for other in results[1:] for i, first in enumerate(results[0])),
        "a narrow cotangent is widened": all(map(torch.equal, *seeded)) and seeded[0][1].dtype == torch.complex128,
        "views are views": views[0].is_conj() and views[2].is_neg() and not strided[4].is_contiguous(),
        "shapes of nothing": [[part.shape for part in parts] for parts in nothing],
        "nothing is zero": not any(part.any() for parts in nothing for part in parts),
        "loaded": load_backend("gpu") is gpu.cauchy_sum,
        "numba": "numba" in sys.modules,
    }


@pytest.fixture(scope="session")
def answers() -> dict[str, object]:
    path = os.pathsep.join([str(TESTS / "support"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    # warnings are errors because the interpreter's sum leaves out what is not a number, where a GPU does not
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", __file__], env=environment, capture_output=True, text=True, timeout=HANG
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@linux
@pytest.mark.parametrize("name", [*cases(), *as_launched()])
def test_interpreted_kernels_equal_the_reference(answers, name: str) -> None:
    assert answers["roundings"][name] < ROUNDINGS


@linux
@pytest.mark.parametrize("size", SIZES)
def test_interpreted_kernels_are_within_1e_12_of_the_largest_value_in_float64(answers, size: tuple[int, ...]) -> None:
    assert answers["relative"]["x".join(map(str, size)) + " float64"] < 1e-12


@linux
def test_interpreted_kernels_keep_a_nan_in_its_own_copy(answers) -> None:
    assert answers["copies that are nan"] == [[False, True, False, False, False]] * 2


@linux
def test_interpreted_kernels_take_conjugate_negative_and_strided_views(answers) -> None:
    assert answers["views are views"]
    assert answers["views and strides agree"]


@linux
def test_interpreted_kernels_take_a_cotangent_that_is_narrower_than_the_arguments(answers) -> None:
    assert answers["a narrow cotangent is widened"]


@linux
def test_interpreted_kernels_sum_nothing_to_nothing(answers) -> None:
    sizes = [(0, 1, 2, 3), (1, 0, 2, 3), (1, 2, 0, 3), (1, 2, 3, 0)]
    assert answers["shapes of nothing"] == [[[K, M, F], [K, M, N], [K, N]] for K, M, N, F in sizes]
    assert answers["nothing is zero"]


@linux
def test_the_interpreter_stands_in_for_a_gpu_and_needs_no_numba(answers) -> None:
    assert answers["loaded"]
    assert not answers["numba"]


@linux
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


@pytest.mark.gpu
@pytest.mark.parametrize("damping", [1.0, 1e-6])
def test_the_operator_rounds_on_a_gpu_what_it_rounds_on_the_cpu(damping) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    from ssmspec.backends.autograd import cauchy_sum

    arrays = problem(np.random.default_rng(3), (8, 2, 16, 513))
    arrays = arrays[0], damping * arrays[1].real + 1j * arrays[1].imag, *arrays[2:]
    found = {}
    for device in ("cpu", "cuda"):
        residues, poles, x, y, cotangent = (torch.from_numpy(part).to(device) for part in arrays)
        leaves = residues.requires_grad_(), poles.requires_grad_()
        result = cauchy_sum(*leaves, x, y, single=True)
        found[device] = [part.detach().cpu() for part in (result, *torch.autograd.grad(result, leaves, cotangent.to(torch.complex64)))]
    assert [part.dtype for part in found["cuda"]] == [torch.complex64, torch.complex128, torch.complex128]
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        assert (ours - theirs).abs().max() < (1e-4 if damping == 1 else 1e-6) * theirs.abs().max()


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [single, double])
def test_the_operator_of_torch_equals_that_of_the_cpu_on_a_gpu(kind) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    from ssmspec.backends.autograd import cauchy_sum

    arrays = kind(problem(np.random.default_rng(3), (64, 4, 32, 1025)))
    found = {}
    for device in ("cpu", "cuda"):
        residues, poles, x, y, cotangent = (torch.from_numpy(part).to(device) for part in arrays)
        leaves = residues.requires_grad_(), poles.requires_grad_()
        result = cauchy_sum(*leaves, x, y)
        assert result.device.type == device
        found[device] = [part.detach().cpu().numpy() for part in (result, *torch.autograd.grad(result, leaves, cotangent))]
    for ours, theirs, condition in zip(found["cuda"], found["cpu"], conditioning(*double(arrays)), strict=True):
        assert (np.abs(ours - theirs) <= 2 * ROUNDINGS * np.finfo(arrays[2].dtype).eps * condition).all()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(interpreted()))
