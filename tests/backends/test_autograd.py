"""The Cauchy sum as an operator of PyTorch: its gradients, its errors, and from where it can be called."""

import multiprocessing
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from locations import HANG
from torch import Tensor

from ssmspec.backends import BACKENDS, threads
from ssmspec.backends.autograd import cauchy_sum
from ssmspec.backends.precision import SHARPEST
from ssmspec.errors import BackendError

Parts = tuple[Tensor, Tensor, Tensor, Tensor]


def problem(K: int = 2, M: int = 1, N: int = 3, F: int = 5, *, rows: int = 1, kind: torch.dtype = torch.complex128) -> Parts:
    """Residues and poles that require a gradient, x and y. They are drawn in float64, so that both precisions get the same numbers."""
    generator = torch.Generator().manual_seed(11)
    residues = torch.randn(K, M, N, dtype=torch.complex128, generator=generator)
    poles = torch.randn(K, N, dtype=torch.complex128, generator=generator)
    poles = torch.complex(-poles.real.exp(), 3 * poles.imag)
    theta = torch.rand(rows, F, dtype=torch.float64, generator=generator) * torch.pi
    residues, poles = (part.to(kind).requires_grad_() for part in (residues, poles))
    return residues, poles, (theta / 2).cos().to(kind.to_real()), (theta / 2).sin().to(kind.to_real())


def naive(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The formula, member by member of the pairs, for PyTorch to differentiate."""
    sigma, height, node = poles[:, :, None], 1j * y[:, None], x[:, None]
    upper = torch.einsum("kmn,knf->kmf", residues, 1 / (height - sigma * node))
    return upper + torch.einsum("kmn,knf->kmf", residues.conj(), 1 / (height - sigma.conj() * node))


def outcome(function: Callable[..., Tensor], parts: Parts) -> list[Tensor]:
    """Sum and gradients of a loss that weighs every number of the sum differently."""
    result = function(*parts)
    weights = torch.linspace(0.5, 2, result.numel(), dtype=torch.float64).reshape(result.shape)
    loss = (weights * (result.real.double() - 0.3 * result.imag.double()) + weights.flip(-1) * result.abs().double() ** 2).sum()
    return [result.detach(), *torch.autograd.grad(loss, parts[:2])]


def assert_equal(found: list[Tensor], wanted: list[Tensor]) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("sums", "rows"), [(1, 1), (2, 1), (2, 2)])
def test_gradients_equal_finite_differences(sums: int, rows: int) -> None:
    assert torch.autograd.gradcheck(cauchy_sum, problem(M=sums, rows=rows))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.complex128, 1e-12), (torch.complex64, 2e-5)])
def test_sum_and_gradients_equal_those_of_the_plain_formula(kind: torch.dtype, tolerance: float, rows: int) -> None:
    wanted = outcome(naive, problem(3, 2, 16, 65, rows=rows))
    found = outcome(cauchy_sum, problem(3, 2, 16, 65, rows=rows, kind=kind))
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == kind
        assert (ours - theirs).abs().max() < tolerance * theirs.abs().max()


def test_only_what_requires_a_gradient_gets_one() -> None:
    residues, poles, x, y = problem()
    cauchy_sum(residues.detach(), poles, x, y).abs().sum().backward()
    assert residues.grad is None
    assert poles.grad is not None
    assert not cauchy_sum(residues.detach(), poles.detach(), x, y).requires_grad


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({0: lambda r: r.to(torch.complex64)}, r"residues are torch.complex64 and poles torch.complex128; expected both"),
        ({0: lambda r: r.real, 1: lambda p: p.real}, r"residues are torch.float64 and poles torch.float64; expected both"),
        ({2: lambda x: x.float()}, r"nodes are torch.float32 and torch.float64; expected torch.float64, because the residues"),
        ({3: lambda y: y.float()}, r"nodes are torch.float64 and torch.float32; expected torch.float64"),
        ({0: lambda r: r[:, 0]}, r"shapes \[\(2, 3\), .*expected residues \(K, M, N\)"),
        ({1: lambda p: p[:, :2]}, r"shapes .*\(2, 2\).*expected residues \(K, M, N\), poles \(K, N\)"),
        ({1: lambda p: p[:1]}, r"expected residues \(K, M, N\), poles \(K, N\)"),
        ({2: lambda x: x[0], 3: lambda y: y[0]}, r"x and y \(1, F\) or \(K, F\)"),
        ({2: lambda x: x[:, :4]}, r"nodes have shapes \(1, 4\) and \(1, 5\); expected \(1, F\) or \(2, F\), the same for both"),
        ({2: lambda x: x.expand(3, 5), 3: lambda y: y.expand(3, 5)}, r"nodes have shapes \(3, 5\) and \(3, 5\); expected"),
        ({2: lambda x: x.requires_grad_()}, r"nodes of a Cauchy sum are constants; detach"),
        ({3: lambda y: y.requires_grad_()}, r"nodes of a Cauchy sum are constants; detach"),
    ],
)
def test_arguments_that_do_not_fit_are_errors_that_say_so(changes: dict[int, Callable[[Tensor], Tensor]], text: str) -> None:
    parts = [changes.get(i, lambda part: part)(part) for i, part in enumerate(problem())]
    with pytest.raises(BackendError, match=text) as error:
        cauchy_sum(*parts)
    assert "\n" not in str(error.value)


def test_a_second_derivative_is_an_error_of_one_line() -> None:
    parts = problem()
    first = torch.autograd.grad(cauchy_sum(*parts).abs().sum(), parts[:2], create_graph=True)
    with pytest.raises(BackendError, match=r"^a second derivative of the Cauchy sum is not supported; .* without create_graph=True$"):
        first[1].abs().sum().backward()


def test_a_compiled_graph_gives_the_same_values_and_gradients() -> None:
    def model(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return 2 * cauchy_sum(residues.exp(), poles * 1.5, x, y).conj()

    found = outcome(torch.compile(model, backend="aot_eager", fullgraph=True), problem(K=3, M=2))
    for ours, theirs in zip(found, outcome(model, problem(K=3, M=2)), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("name", ["cauchy_sum", "cauchy_vjp"])
def test_pytorch_finds_the_operators_well_formed(name: str, single: bool) -> None:
    parts: tuple[Any, ...] = problem(M=2)
    if name == "cauchy_vjp":
        parts = (*parts, torch.ones(2, 2, 5, dtype=torch.complex64 if single else torch.complex128))
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(getattr(torch.ops.ssmspec, name).default, (*parts, single), test_utils=checks)


def sharp(parts: Parts, damping: float) -> Parts:
    """The same poles with little damping, the first of them on a node."""
    residues, poles, x, y = parts
    imag = poles.detach().imag.clone()
    imag[0, 0] = y[0, 0] / x[0, 0]
    return residues, torch.complex(-damping * imag.abs(), imag).requires_grad_(), x, y


def in_double(*parts: Tensor) -> Tensor:
    return cauchy_sum(*parts).to(torch.complex64)


def in_single(*parts: Tensor) -> Tensor:
    return cauchy_sum(*parts, single=True)


@pytest.mark.parametrize("damping", [0.9 / SHARPEST, 1e-6, 1e-12])
def test_sharp_resonances_are_not_rounded_to_float32(damping: float) -> None:
    parts = sharp(problem(3, 2, 16, 65), damping)
    found, wanted = outcome(in_single, parts), outcome(in_double, parts)
    assert [part.dtype for part in found] == [torch.complex64, torch.complex128, torch.complex128]
    assert_equal(found, wanted)
    rounded = cauchy_sum(*(part.detach().to(torch.complex64 if part.is_complex() else torch.float32) for part in parts))
    assert (rounded - wanted[0]).abs().max() > 1e-5 * wanted[0].abs().max()


def test_where_float32_will_do_it_is_used() -> None:
    parts = problem(3, 2, 16, 65)
    narrow = problem(3, 2, 16, 65, kind=torch.complex64)
    for ours, theirs in zip(outcome(in_single, parts), outcome(cauchy_sum, narrow), strict=True):
        assert torch.equal(ours.to(torch.complex64), theirs)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_poles_whose_gradients_leave_float32_are_not_rounded_to_it(scale: float) -> None:
    residues, poles, x, y = problem(2, 1, 3, 9)
    poles = (poles.detach() * scale).requires_grad_()
    for ours, theirs in zip(outcome(in_single, (residues, poles, x, y)), outcome(in_double, (residues, poles, x, y)), strict=True):
        assert ours.isfinite().all()
        assert torch.equal(ours, theirs)


def test_only_double_precision_can_be_rounded() -> None:
    with pytest.raises(BackendError, match=r"residues are torch.complex64; expected torch.complex128, which single=True can round"):
        cauchy_sum(*problem(kind=torch.complex64), single=True)


def test_an_engine_whose_package_is_missing_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, BACKENDS["cpu"], raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(BackendError, match=r"^backend 'cpu' cannot run here \([^\n]*numba[^\n]*\); choose one of reference, gpu$"):
        cauchy_sum(*problem())


@pytest.mark.skipif(not hasattr(torch.Tag, "cudagraph_unsafe"), reason="this torch has no such tag")
def test_compilers_are_told_to_keep_the_operators_out_of_cuda_graphs() -> None:
    for name in ("cauchy_sum", "cauchy_vjp"):
        assert torch.Tag.cudagraph_unsafe in getattr(torch.ops.ssmspec, name).default.tags


@pytest.mark.parametrize("view", ["strided", "conjugate", "negative", "expanded"])
def test_views_are_read_as_what_they_show(view: str) -> None:
    residues, poles, x, y = problem(K=3, M=2, rows=3)
    changed = {
        "strided": lambda part: torch.stack([part, part], -1)[..., 0],
        "conjugate": lambda part: part.conj().resolve_conj().conj() if part.is_complex() else part,
        "negative": lambda part: part if part.is_complex() else torch.complex(part, -part).conj().imag,
        "expanded": lambda part: part[:1].expand_as(part),
    }[view]
    plain = [
        changed(part.detach()).clone(memory_format=torch.contiguous_format).resolve_conj().resolve_neg() for part in (residues, poles, x, y)
    ]
    views = [changed(part.detach()) for part in (residues, poles, x, y)]
    properties = {
        "strided": not views[0].is_contiguous(),
        "conjugate": views[0].is_conj(),
        "negative": views[2].is_neg(),
        "expanded": views[0].stride(0) == 0,
    }
    assert properties[view]
    for parts in (plain, views):
        parts[0].requires_grad_()
        parts[1].requires_grad_()
    assert_equal(outcome(cauchy_sum, tuple(views)), outcome(cauchy_sum, tuple(plain)))


def test_a_cotangent_of_one_number_expanded_is_read_right() -> None:
    parts = problem()
    summed = torch.autograd.grad(cauchy_sum(*parts).sum().real, parts[:2])
    plain = torch.autograd.grad(naive(*parts).sum().real, parts[:2])
    for ours, theirs in zip(summed, plain, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_without_gradients_the_values_are_the_same() -> None:
    parts = problem(K=3, M=2)
    with torch.no_grad():
        quiet = cauchy_sum(*parts)
    with torch.inference_mode():
        inferred = cauchy_sum(*parts)
    assert not quiet.requires_grad
    assert torch.equal(quiet, cauchy_sum(*parts).detach())
    assert torch.equal(quiet, inferred.clone())


def large() -> Parts:
    return problem(K=16, N=32, F=1025, kind=torch.complex64)


def answer(connection: Any) -> None:
    torch.set_num_threads(1)  # as workers of a DataLoader do: PyTorch's own OpenMP threads wait forever after a fork
    connection.send([part.numpy().tobytes() for part in outcome(cauchy_sum, large())])


def test_a_forked_process_computes_after_the_threads_were_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    monkeypatch.setattr(threads, "_pool", None)
    wanted = [part.numpy().tobytes() for part in outcome(cauchy_sum, large())]
    assert threads._pool is not None
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=answer, args=(there,))
    with warnings.catch_warnings():
        # Python 3.12 warns of any fork of a process with threads; this one is about doing just that
        warnings.filterwarnings("ignore", message="This process .* is multi-threaded", category=DeprecationWarning)
        child.start()
    try:
        assert here.poll(HANG)
        assert here.recv() == wanted
    finally:
        child.kill()
        child.join()


def test_two_python_threads_at_once_get_equal_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    monkeypatch.setattr(threads, "_pool", None)
    wanted = outcome(cauchy_sum, large())
    assert threads._pool is not None
    with ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(outcome, cauchy_sum, large()) for _ in range(8)]
    for task in tasks:
        assert_equal(task.result(), wanted)
