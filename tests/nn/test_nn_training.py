"""Optimizer groups, copies, precisions, compilers and several processes."""

import copy
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import two_halves
from ranks import run_ranks
from torch import nn

from ssmspec.errors import BackendError
from ssmspec.nn import S4D, optimizer_groups
from ssmspec.nn.weighting import WITH_REFERENCE
from ssmspec.systems.sobolev import CONVENTIONS

H = 6


def groups_of(module: nn.Module, **options: float) -> list[tuple[set[str], float, float]]:
    names = {parameter: name for name, parameter in module.named_parameters()}
    found = optimizer_groups(module, lr=0.01, weight_decay=0.05, **options)
    return [({names[parameter] for parameter in group["params"]}, group["lr"], group["weight_decay"]) for group in found]


OTHERS = {"D", "kernel.C", "output_linear.0.weight", "output_linear.0.bias"}
POLES = {"kernel.log_A_real", "kernel.A_imag"}


def test_a_number_moves_poles_and_steps_without_decay() -> None:
    assert groups_of(S4D(H, 8, lr=0.001)) == [(OTHERS, 0.01, 0.05), (POLES | {"kernel.log_dt"}, 0.001, 0.0)]


def test_without_a_rate_poles_and_steps_move_as_the_others_but_do_not_decay() -> None:
    assert groups_of(S4D(H, 8)) == [(OTHERS, 0.01, 0.05), (POLES | {"kernel.log_dt"}, 0.01, 0.0)]


def test_a_dict_names_single_parts() -> None:
    layer = S4D(H, 8, lr={"A": 0.001, "C": 0.02}, beta=0.0, trainable_beta=True, lr_beta=0.3)
    wanted = [
        (OTHERS - {"kernel.C"}, 0.01, 0.05),
        ({"beta"}, 0.3, 0.0),
        ({"kernel.C"}, 0.02, 0.05),
        ({"kernel.log_dt"}, 0.01, 0.0),
        (POLES, 0.001, 0.0),
    ]
    found = groups_of(layer)
    assert found[0] == wanted[0]
    assert sorted(map(str, map(sorted_names, found))) == sorted(map(str, map(sorted_names, wanted)))


def sorted_names(group: tuple[set[str], float, float]) -> tuple[object, ...]:
    return (sorted(group[0]), *group[1:])


def test_a_rate_of_zero_makes_buffers() -> None:
    layer = S4D(H, 8, layout="s4-diag", lr={"dt": 0.0, "A": 0.0}, beta=0.5)
    fixed = {"layer.kernel.inv_dt", "layer.kernel.A_real", "layer.kernel.A_imag", "layer.beta"}
    assert {name for name, _ in layer.named_buffers()} == fixed
    assert not fixed & {name for name, _ in layer.named_parameters()}


def test_the_block_moves_b_and_c_too() -> None:
    (plain, *others) = groups_of(S4D(H, 8, layout="s4-diag", lr=0.001))
    assert plain[0] == {"layer.D", "output_linear.0.weight", "output_linear.0.bias"}
    assert sorted(map(str, map(sorted_names, others))) == sorted(
        map(
            str,
            [
                (["layer.kernel.C"], 0.001, 0.05),
                (["layer.kernel.A_imag", "layer.kernel.A_real", "layer.kernel.B", "layer.kernel.inv_dt"], 0.001, 0.0),
            ],
        )
    )


def test_groups_hold_every_parameter_once_and_leave_out_frozen_ones() -> None:
    model = nn.ModuleList([S4D(H, 8, lr=0.001), nn.Linear(3, 3)])
    model.append(model[0])
    model[1].bias.requires_grad_(False)
    found = [parameter for group in optimizer_groups(model, lr=0.1) for parameter in group["params"]]
    assert len(found) == len(set(found)) == len(list(model.parameters())) - 1
    torch.optim.AdamW(optimizer_groups(model, lr=0.1))


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "load with assign": lambda layer: assigned(layer),
}


def assigned(layer: S4D) -> S4D:
    other = S4D(H, 8, lr=0.001, beta=0.3, trainable_beta=True, lr_beta=0.5)
    other.load_state_dict({name: value.clone() for name, value in layer.state_dict().items()}, assign=True)
    return other


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
def test_copies_compute_the_same_and_keep_their_rates(make_copy) -> None:
    layer = S4D(H, 8, lr=0.001, beta=0.3, trainable_beta=True, lr_beta=0.5)
    twin, u = make_copy(layer), torch.randn(2, H, 20)
    assert torch.equal(twin(u)[0], layer(u)[0])
    assert groups_of(twin) == groups_of(layer)
    twin.D.data.add_(1)
    assert not torch.equal(twin.D, layer.D)


def test_copies_keep_what_was_changed_by_hand() -> None:
    layer = S4D(H, 8, lr=0.001)
    layer.D._optim = {"lr": 0.5}
    layer.kernel.A_imag._optim = {"lr": 0.25}
    steps = layer.kernel.log_dt.detach()
    del layer.kernel.log_dt
    layer.kernel.register_buffer("log_dt", steps)
    twin = copy.deepcopy(layer)
    assert groups_of(twin) == groups_of(layer)
    assert (twin.D._optim, twin.kernel.A_imag._optim) == ({"lr": 0.5}, {"lr": 0.25})


@pytest.mark.parametrize(
    "options", [{}, {"layout": "s4-diag", "bidirectional": True}, {"beta": 0.5, "beta_convention": "causal", "theta_ref": 1.0}], ids=str
)
def test_autocast_narrows_the_matrix_product_only(options) -> None:
    layer, u = S4D(32, 16, **options), torch.randn(2, 32, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = layer(u)
        spectrum, _ = layer.spectrum(64)
    assert (y.dtype, spectrum.dtype) == (torch.bfloat16, torch.complex64)
    wanted = layer(u)[0]
    assert (y - wanted).abs().max() < 0.02 * wanted.abs().max()
    y.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(u.bfloat16())[0].dtype == torch.bfloat16


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_autocast_leaves_every_weight_in_single_precision(convention, kind) -> None:
    layer = S4D(8, 16, beta=0.5, trainable_beta=True, beta_convention=convention, theta_ref=1.0 if convention in WITH_REFERENCE else None)
    u = torch.randn(2, 8, 33)
    with torch.autocast("cpu", dtype=kind):
        y, (spectrum, _) = layer(u)[0], layer.spectrum(33)
    assert (y.dtype, spectrum.dtype) == (kind, torch.complex64)
    assert torch.equal(spectrum, layer.spectrum(33)[0])
    y.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_layers_in_half_precision_compute_the_kernel_in_single() -> None:
    layer, u = S4D(32, 16).bfloat16(), torch.randn(2, 32, 64)
    y, _ = layer(u.bfloat16())
    assert y.dtype == torch.bfloat16
    wanted = layer.float()(u.bfloat16().float())[0]
    assert (y - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_second_derivatives_are_refused_in_one_line() -> None:
    layer, u = S4D(H, 8), torch.randn(1, H, 9, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(u)[0].sum(), u, create_graph=True)
    with pytest.raises(BackendError, match="second derivative") as caught:
        gradient.square().sum().backward()
    assert "\n" not in str(caught.value)


def compiled_equals_eager(layer: S4D, backend: str) -> None:
    compiled, twin = torch.compile(layer, backend=backend, fullgraph=True), copy.deepcopy(layer)
    u = torch.randn(2, H, 24)
    y, wanted = compiled(u)[0], twin(u)[0]
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5)
    y.square().sum().backward()
    wanted.square().sum().backward()
    for (name, parameter), other in zip(layer.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    "options", [{}, {"layout": "s4-diag", "bidirectional": True, "beta": 0.5, "beta_convention": "causal", "theta_ref": 1.0}], ids=str
)
def test_compiling_gives_one_graph_and_the_same_values(options) -> None:
    torch.manual_seed(0)
    compiled_equals_eager(S4D(H, 8, **options), "aot_eager")


@pytest.mark.parametrize("options", [{"discretization": "bilinear"}, {"layout": "s4-diag", "bidirectional": True, "l_max": 5}], ids=str)
def test_one_compiled_graph_serves_batches_and_lengths_of_any_size(options) -> None:
    layer, graphs = S4D(H, 8, **options), []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(layer, backend=count, fullgraph=True, dynamic=True)
    for B, L in ((2, 24), (3, 40), (4, 26)):
        u = torch.randn(B, H, L)
        torch.testing.assert_close(compiled(u)[0], layer(u)[0], rtol=1e-5, atol=1e-5)
    assert len(graphs) == 1


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="inductor needs a C++ compiler")
@pytest.mark.skipif(os.environ.get("ATEN_CPU_CAPABILITY") == "default", reason="inductor of torch writes vector code for any processor")
@pytest.mark.skipif(torch.__version__.startswith("2.7."), reason="inductor of torch 2.7 lacks an operator of the kernel")
@pytest.mark.filterwarnings(
    "ignore:Torchinductor does not support code generation for complex operators", "ignore::DeprecationWarning:torch"
)
def test_compiling_with_inductor_gives_the_same_values() -> None:
    torch.manual_seed(0)
    with torch._inductor.config.patch({"cpp.vec_isa_ok": True}):  # what the processor says it has need not be tried by compiling
        compiled_equals_eager(S4D(H, 8), "inductor")


@pytest.mark.slow
def test_two_processes_average_the_gradients_of_their_halves(tmp_path: Path) -> None:
    run_ranks(Path(two_halves.__file__), tmp_path)
    layer = two_halves.layer()
    layer(two_halves.batch())[0].square().mean().backward()
    found = torch.load(tmp_path / "gradients.pt", weights_only=True)
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_training_moves_every_parameter() -> None:
    torch.manual_seed(0)
    layer = S4D(H, 8, beta=0.0, trainable_beta=True, lr=0.001)
    before = copy.deepcopy(layer.state_dict())
    optimizer = torch.optim.AdamW(optimizer_groups(layer, lr=0.01))
    u, target = torch.randn(4, H, 32), torch.randn(4, H, 32)
    losses = []
    for _ in range(20):
        loss = (layer(u)[0] - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(not torch.equal(before[name], value) for name, value in layer.state_dict().items())
