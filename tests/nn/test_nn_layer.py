"""S4D against the published forward passes: values, gradients, recurrence."""

import published
import pytest
import torch
from layers_of_nn import BETAS, CASES, H, make

from ssmspec.errors import LayerError
from ssmspec.nn import S4D

every_case = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


def expected(layer: S4D, u: torch.Tensor, state: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    asked = layer.settings
    return published.layer(
        layer.state_dict() if state is None else state,
        u,
        rule=asked.discretization,
        l_max=asked.l_max,
        bidirectional=asked.bidirectional,
        convention=asked.beta_convention,
        theta_ref=asked.theta_ref,
    )


def signal(L: int, batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, H, L, dtype=torch.float64, generator=torch.Generator().manual_seed(L))


@every_case
@pytest.mark.parametrize("L", [1, 32, 33])
def test_the_function_is_that_of_the_original(options, L) -> None:
    layer, u = make(**options), signal(L)
    y, state = layer(u)
    assert state is None
    torch.testing.assert_close(y, expected(layer, u), rtol=1e-10, atol=1e-10)


@every_case
def test_all_gradients_are_those_of_the_original(options) -> None:
    layer, u, L = make(**options), signal(33).requires_grad_(), 33
    cotangent = signal(L + 1)[..., :L]
    layer(u)[0].backward(cotangent)
    state = {name: value.detach().clone().requires_grad_() for name, value in layer.state_dict().items()}
    twin = signal(33).requires_grad_()
    expected(layer, twin, state).backward(cotangent)
    assert {name for name, _ in layer.named_parameters()} == set(state)
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, state[name].grad, rtol=1e-9, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")
    torch.testing.assert_close(u.grad, twin.grad, rtol=1e-9, atol=1e-10)


LAYOUTS = {
    "minimal": {},
    "short kernel": {"l_max": 11},
    "block": {"layout": "s4-diag", "channels": 2},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("weight", BETAS.values(), ids=BETAS)
@pytest.mark.parametrize("L", [1, 2, 32, 33])
def test_beta_is_the_weight_of_its_convention_and_so_are_its_gradients(weight, layout, L) -> None:
    layer, u = make(beta=0.7, trainable_beta=True, **weight, **layout), signal(L)
    state = {name: value.detach().clone().requires_grad_() for name, value in layer.state_dict().items()}
    wanted, (y, _) = expected(layer, u, state), layer(u)
    torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-10)
    cotangent = signal(L + 1)[..., :L]
    y.backward(cotangent)
    wanted.backward(cotangent)
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, state[name].grad, rtol=1e-8, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


def dynamic(layer: S4D, u: torch.Tensor) -> torch.Tensor:
    """The weighted part of a block without D, on the whole circle of its FFT, (B, ch, H, n)."""
    spectrum, n = layer.spectrum(u.shape[-1])
    return torch.fft.irfft(torch.fft.rfft(u, n)[:, None] * (spectrum - layer.layer.D[..., None]), n)


@pytest.mark.parametrize("options", [{}, {"l_max": 5}, {"channels": 2, "n_ssm": 3}], ids=str)
@pytest.mark.parametrize("weight", BETAS.values(), ids=BETAS)
@pytest.mark.parametrize("L", [1, 2, 9])
def test_both_directions_are_one_layer_and_the_reflection_of_another(weight, options, L) -> None:
    """y[t] = (k0 * u)[t] + (k1 * reversed u)[L - 2 - t]; with its convention each, so a causal weight leaks nothing backward either."""
    options = {"layout": "s4-diag", "beta": 0.7, **weight, **options}
    both, forward, backward = make(**options, bidirectional=True), make(**options), make(**options)
    state = both.state_dict()
    for layer, C in zip((forward, backward), state["layer.kernel.C"].chunk(2), strict=True):
        layer.load_state_dict(state | {"layer.kernel.C": C})
    u = signal(L)
    reflected = dynamic(backward, u.flip(-1))
    wanted = dynamic(forward, u)[..., :L] + reflected[..., (L - 2 - torch.arange(L)) % reflected.shape[-1]]
    torch.testing.assert_close(dynamic(both, u)[..., :L], wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("beta", [-2.0, -1.0, 0.0, 1.0, 2.0])
def test_whole_exponents_of_the_causal_weight_have_gradients(beta) -> None:
    options = {"beta": beta, "trainable_beta": True, "beta_convention": "causal", "theta_ref": 0.5}
    layer, near = (make(**options) for _ in range(2))
    for each, shift in ((layer, 0.0), (near, 1e-6)):
        each.beta.data.fill_(beta + shift)
    u = signal(24)
    layer(u)[0].sum().backward()
    slope = (near(u)[0].sum() - layer(u)[0].sum()).item() / 1e-6
    assert layer.beta.grad.sum().item() == pytest.approx(slope, rel=1e-3)


def response(layer: S4D, L: int = 256, at: int = 128) -> torch.Tensor:
    """Response of the dynamic part to an impulse in the middle of the input, (H, L)."""
    spectrum, n = layer.spectrum(L)
    u = torch.zeros(L, dtype=torch.float64)
    u[at] = 1
    return torch.fft.irfft(torch.fft.rfft(u, n) * (spectrum[0] - layer.D[:, None]), n)[:, :L].detach()


@pytest.mark.parametrize("weight", BETAS.values(), ids=BETAS)
def test_only_the_causal_weight_leaves_the_time_before_an_impulse_alone(weight) -> None:
    layer = S4D(H, 64, beta=1.0, **(weight | ({"theta_ref": 0.1} if "theta_ref" in weight else {}))).double()
    found = response(layer).abs()
    leak = (found[:, :128].amax(1) / found.amax(1)).max()
    if weight["beta_convention"] == "causal":
        assert leak < 1e-12
    else:
        assert leak > 1e-3


def test_the_leak_of_a_zero_phase_weight_is_its_closed_form() -> None:
    """Of 1 + |theta|/theta_ref: the inverse transform is 1 + pi/(2 theta_ref) at time zero and -2/(pi theta_ref) a sample before it."""
    layer = S4D(1, 2, beta=1.0, beta_convention="angular", theta_ref=0.1, poles=[[-1e6]], step_min=1.0, step_max=1.0).double()
    found = response(layer, 4096, 2048)[0]
    assert (found[2047] / found[2048]).item() == pytest.approx(-20 / torch.pi / (1 + 5 * torch.pi), rel=1e-6)


RECURRENT = {name: options for name, options in CASES.items() if not options.get("bidirectional") and options.get("l_max") != 11}


@pytest.mark.parametrize("options", RECURRENT.values(), ids=RECURRENT)
def test_steps_equal_the_convolution(options) -> None:
    layer, u = make(**options), signal(40)
    if layer.settings.layout == "freqbias-block":
        layer.layer.s.data.zero_()
    state, rows = layer.default_state(3), []
    for t in range(40):
        y, state = layer.step(u[..., t], state)
        rows.append(y)
    torch.testing.assert_close(torch.stack(rows, -1), layer(u)[0], rtol=1e-10, atol=1e-10)


def test_steps_in_single_precision_stay_in_it() -> None:
    layer = S4D(H, 8)
    y, state = layer.step(torch.randn(2, H), layer.default_state(2))
    assert (y.dtype, state.dtype) == (torch.float32, torch.complex64)


def test_steps_take_no_samples_as_well() -> None:
    layer = S4D(H, 8)
    y, state = layer.step(torch.randn(0, H), layer.default_state(0))
    assert (y.shape, state.shape) == ((0, H), (0, H, 4))


@pytest.mark.parametrize("state", [torch.zeros(2, H, 4), torch.zeros(1, H, 4).cfloat(), torch.zeros(2, H, 3).cfloat()], ids=str)
def test_states_that_are_none_of_the_layer_are_refused(state) -> None:
    with pytest.raises(LayerError, match=r"the state is .* expected a complex one of \(2, 6, 4\), as from default_state"):
        S4D(H, 8).step(torch.zeros(2, H), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "s4-diag", "bidirectional": True}, "bidirectional layer has no recurrence"),
        ({"beta": 0.5}, "beta that is not zero has no recurrence"),
        ({"beta": 0.5, "beta_convention": "causal", "theta_ref": 1.0}, "beta that is not zero has no recurrence"),
        ({"layout": "freqbias-block", "beta": 0.1}, "beta that is not zero has no recurrence"),
    ],
)
def test_layers_without_a_recurrence_refuse_to_step(options, message) -> None:
    layer = S4D(H, 8, **options)
    with pytest.raises(LayerError, match=message):
        layer.step(torch.zeros(1, H), layer.default_state(1))


@pytest.mark.parametrize("layout", ["minimal", "s4-diag", "freqbias-block"])
def test_axes_may_come_in_either_order(layout) -> None:
    layer, turned = make(layout=layout), make(layout=layout, transposed=False)
    u = signal(21)
    torch.testing.assert_close(turned(u.mT)[0].mT, layer(u)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"layout": "s4-diag", "bidirectional": True}, {"layout": "freqbias-block"}], ids=str)
@pytest.mark.parametrize("alpha", [1.0, 30.0])
def test_single_precision_keeps_four_digits(options, alpha) -> None:
    """Rounding the poles alone costs eps |a| Delta L: alpha = 30 reaches the Nyquist frequency."""
    torch.manual_seed(3)
    single = S4D(32, 64, alpha=alpha, **options)
    double = S4D(32, 64, alpha=alpha, **options).double()
    double.load_state_dict(single.state_dict())
    u = torch.randn(2, 32, 1024)
    found, wanted = single(u)[0].double(), double(u.double())[0]
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_dropout_is_tied_over_time_where_the_original_ties_it() -> None:
    for layout, tied in (("minimal", True), ("s4-diag", False), ("freqbias-block", False)):
        layer, seen = S4D(16, 8, layout=layout, dropout=0.5), []
        layer.dropout.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append((inputs[0] != 0, output != 0)))
        layer(torch.randn(4, 16, 64))
        assert len(seen) == (1 if layout == "minimal" else 2)
        for before, after in seen:
            share = after.sum(-1) / before.sum(-1)
            assert bool(((share == 0) | (share == 1)).all()) is tied
            assert 0.3 < share.mean() < 0.7


def test_dropout_is_off_in_evaluation_and_can_be_tied_by_request() -> None:
    layer = S4D(8, 8, layout="s4-diag", dropout=0.5, tie_dropout=True)
    assert isinstance(layer.dropout, torch.nn.Dropout1d)
    plain = S4D(8, 8, layout="s4-diag")
    plain.load_state_dict(layer.state_dict())
    u = torch.randn(2, 8, 16)
    torch.testing.assert_close(layer.eval()(u)[0], plain(u)[0], rtol=0, atol=0)


def test_alpha_scales_the_imaginary_parts_of_the_first_poles() -> None:
    for layout, name in (("minimal", "kernel.A_imag"), ("s4-diag", "layer.kernel.A_imag")):
        plain, scaled = (S4D(4, 16, layout=layout, alpha=alpha).state_dict()[name] for alpha in (1.0, 3.0))
        torch.testing.assert_close(plain[0], torch.pi * torch.arange(8.0))
        torch.testing.assert_close(scaled, 3 * plain)


def test_other_poles_can_be_given() -> None:
    poles = torch.complex(-torch.rand(4, 3, dtype=torch.float64), torch.rand(4, 3, dtype=torch.float64)).numpy()
    layer = S4D(4, 6, poles=poles, alpha=2.0)
    torch.testing.assert_close(layer.kernel.system().poles.real, torch.from_numpy(poles.real), rtol=1e-6, atol=0)
    torch.testing.assert_close(layer.kernel.system().poles.imag, torch.from_numpy(2 * poles.imag), rtol=1e-6, atol=0)


BAD = [
    ({"layout": "s5"}, "layout 's5' is unknown; choose one of minimal, s4-diag, freqbias-block"),
    ({"beta_convention": "linear"}, "beta_convention 'linear' is unknown"),
    ({"discretization": "euler"}, "discretization 'euler' is unknown; choose one of zoh, bilinear"),
    ({"d_state": 7}, "d_state is 7.*even"),
    ({"d_state": 0}, "d_state is 0"),
    ({"n_ssm": 4, "layout": "s4-diag"}, "n_ssm is 4, which does not divide d_model = 6"),
    ({"n_ssm": 0, "layout": "s4-diag"}, "n_ssm is 0"),
    ({"n_ssm": 2}, "layout minimal does not support"),
    ({"bidirectional": True}, "layout minimal does not support"),
    ({"channels": 2}, "has one channel"),
    ({"beta": float("nan")}, "beta is nan"),
    ({"beta": 1.0, "beta_convention": "angular"}, "angular needs theta_ref"),
    ({"beta": 1.0, "beta_convention": "causal", "theta_ref": -1.0}, "causal needs theta_ref"),
    ({"beta": 1.0, "theta_ref": 1.0}, "theta_ref needs a beta and one of the conventions angular, causal"),
    ({"beta": 1.0, "beta_convention": "paper", "layout": "s4-diag", "tie_step": False}, "one step per copy"),
    ({"beta_convention": "paper", "layout": "freqbias-block"}, "supports only beta_convention lra"),
    ({"trainable_beta": True}, "trainable_beta needs an initial value"),
    ({"alpha": -1.0}, "alpha is -1.0"),
    ({"l_max": 0}, "l_max is 0"),
    ({"step_min": 0.2}, "step_min and step_max are 0.2 and 0.1"),
    ({"dropout": 1.0}, "dropout is 1.0"),
    ({"lr": {"B": 0.1}}, "lr names B; layout minimal has dt, A, C"),
    ({"lr": -1.0}, "learning rates must be finite"),
    ({"poles": [[1j]]}, r"poles have shape \(1, 1\), expected \(6, 4\)"),
    ({"poles": [[1.0] * 4] * 6}, "negative real part"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_options_that_make_no_sense_are_refused_in_one_line(options, message) -> None:
    with pytest.raises(LayerError, match=message) as caught:
        S4D(H, **({"d_state": 8} | options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("u", "message"),
    [
        (torch.zeros(2, 5, 7), r"shape \(2, 5, 7\), expected \(B, 6, L\)"),
        (torch.zeros(6, 7), r"shape \(6, 7\), expected \(B, 6, L\)"),
        (torch.zeros(2, 6, 0), "L at least 1"),
        (torch.zeros(2, 6, 7, dtype=torch.int64), "input is torch.int64"),
        (torch.zeros(2, 6, 7, dtype=torch.float64), "input is torch.float64, but the layer is torch.float32"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(u, message) -> None:
    with pytest.raises(LayerError, match=message):
        S4D(H, 8)(u)


class Adapted(torch.nn.Module):
    """A linear map of twice the size, with the weight of the one below, as adapters have it."""

    def __init__(self, below: torch.nn.Module) -> None:
        super().__init__()
        self.below, self.weight, self.bias = below, below.weight, below.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.below(x)


@pytest.mark.parametrize("layout", ["minimal", "s4-diag"])
def test_what_others_make_of_the_linear_map_is_called(layout) -> None:
    layer, u = make(layout=layout), signal(9)
    plain, seen = layer(u)[0], []
    hook = layer.output_linear[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    torch.testing.assert_close(layer(u)[0], plain, rtol=1e-12, atol=1e-12)
    assert len(seen) == 1
    hook.remove()
    twice = make(layout=layout)
    twice.output_linear[0].weight.data *= 2
    twice.output_linear[0].bias.data *= 2
    layer.output_linear[0] = Adapted(layer.output_linear[0])
    torch.testing.assert_close(layer(u)[0], twice(u)[0], rtol=1e-12, atol=1e-12)
    y, _ = layer.step(u[..., 0], layer.default_state(3))
    torch.testing.assert_close(y, twice(u)[0][..., 0], rtol=1e-10, atol=1e-10)


@every_case
def test_an_empty_batch_gives_an_empty_output_and_zero_gradients(options) -> None:
    layer = make(**options)
    y, _ = layer(signal(9, batch=0))
    y.sum().backward()
    assert y.shape == (0, H, 9)
    assert all(parameter.grad.abs().max() == 0 for parameter in layer.parameters())


def test_a_layer_can_be_made_without_memory_and_filled_later() -> None:
    torch.manual_seed(0)
    real = S4D(H, 8)
    with torch.device("meta"):
        layer = S4D(H, 8, poles=[[-1.0 + 1j] * 4] * H)
    assert {parameter.device.type for parameter in layer.parameters()} == {"meta"}
    layer.to_empty(device="cpu").load_state_dict(real.state_dict())
    u = torch.randn(2, H, 9)
    assert torch.equal(layer(u)[0], real(u)[0])
