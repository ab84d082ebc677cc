"""Initial input and output matrices B (K, N, I) and C (K, O, N) of state space layers, complex128, under their names in the literature.

Values are those of the named code, for the upper half of the poles. LRU multiplies B by `Poles.normalization` and takes Re of the output
instead of 2 Re, so a `StateSpace` needs half of its C. The fan of a matrix counts stored modes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssmspec.systems.statespace import ComplexArray, FloatArray
from ssmspec.tuning.poles.hippo import legs_normal_part, legs_weights
from ssmspec.tuning.poles.initializations import Rng, Settings, unknown

CLIP = 2.0  # largest |Im B| of HiPPO-LegS: `B_clip` of state-spaces/s4, src/models/hippo/hippo.py, `nplr`
TRUNCATED_DEVIATION = 0.8796256610342398  # standard deviation of a standard normal number truncated to -2..2


@dataclass(frozen=True, slots=True)
class MatrixInitialization:
    """A named initialization of B or C.

    Args:
        name: key of its dict. title: name in words. source: paper and section, repository and path.
        function: (settings, generator) -> B (K, N, I) or C (K, O, N), complex128.
    """

    name: str
    title: str
    source: str
    function: Callable[[Settings, Rng], ComplexArray]


def initial_inputs(name: str, settings: Settings, *, rng: Rng) -> ComplexArray:
    """B (K, N, I), complex128, from the named entry of `INPUT_INITIALIZATIONS`. Raises SsmspecError for an unknown name."""
    if name not in INPUT_INITIALIZATIONS:
        raise unknown("initialization of B", name, INPUT_INITIALIZATIONS)
    return INPUT_INITIALIZATIONS[name].function(settings, rng)


def initial_outputs(name: str, settings: Settings, *, rng: Rng) -> ComplexArray:
    """C (K, O, N), complex128, from the named entry of `OUTPUT_INITIALIZATIONS`. Raises SsmspecError for an unknown name."""
    if name not in OUTPUT_INITIALIZATIONS:
        raise unknown("initialization of C", name, OUTPUT_INITIALIZATIONS)
    return OUTPUT_INITIALIZATIONS[name].function(settings, rng)


def _input_shape(settings: Settings) -> tuple[int, int, int]:
    return settings.copies, settings.modes, settings.inputs


def _output_shape(settings: Settings) -> tuple[int, int, int]:
    return settings.copies, settings.outputs, settings.modes


def _complex_normal(shape: tuple[int, ...], variance: float, rng: Rng) -> ComplexArray:
    """Circular normal numbers with E|c|^2 = variance."""
    deviation = math.sqrt(variance / 2)
    return deviation * rng.standard_normal(shape) + 1j * (deviation * rng.standard_normal(shape))


def _truncated_normal(shape: tuple[int, ...], variance: float, rng: Rng) -> FloatArray:
    """Normal numbers truncated to two standard deviations, then scaled to the variance, like jax.nn.initializers.lecun_normal."""
    draws = rng.standard_normal(shape)
    while (far := np.abs(draws) > 2).any():
        draws[far] = rng.standard_normal(int(far.sum()))
    return draws * (math.sqrt(variance) / TRUNCATED_DEVIATION)


def _rows(row: ComplexArray, settings: Settings) -> ComplexArray:
    return np.broadcast_to(row[None, :, None], _input_shape(settings)).copy()


def _ones(settings: Settings, rng: Rng) -> ComplexArray:
    return np.ones(_input_shape(settings), complex)


def _normal_inputs(settings: Settings, rng: Rng) -> ComplexArray:
    return _complex_normal(_input_shape(settings), 1, rng)


def _legs_inputs(settings: Settings, rng: Rng) -> ComplexArray:
    """V^* B with its imaginary part clipped. In theory it should be halved for a diagonal system, but the published code does not do so."""
    B = legs_normal_part(settings.modes)[1].conj().T @ legs_weights(2 * settings.modes)
    return _rows(B.real + 1j * np.clip(B.imag, -CLIP, CLIP), settings)


def _fourier_inputs(settings: Settings, rng: Rng) -> ComplexArray:
    """V^* B = 1, and 1/sqrt 2 for the constant mode. Its eigenvector is (1, i)/sqrt 2 here; the published code leaves it to LAPACK."""
    B = np.ones(settings.modes, complex)
    B[0] = math.sqrt(0.5)
    return _rows(B, settings)


def _lru_inputs(settings: Settings, rng: Rng) -> ComplexArray:
    """Re and Im normal with standard deviation 1/sqrt(2 I)."""
    return _complex_normal(_input_shape(settings), 1 / settings.inputs, rng)


def _block_basis(settings: Settings) -> ComplexArray:
    return legs_normal_part(settings.modes // settings.blocks)[1]


def _s5_inputs(settings: Settings, rng: Rng) -> ComplexArray:
    """V^* B_0, where B_0 (2N, I) is real and truncated normal with variance 1/(2N)."""
    K, N, I = _input_shape(settings)
    real = _truncated_normal((K, settings.blocks, 2 * N // settings.blocks, I), 1 / (2 * N), rng)
    return (_block_basis(settings).conj().T @ real).reshape(K, N, I)


def _s5_outputs(settings: Settings, fan_in: int, rng: Rng) -> ComplexArray:
    """C_0 V, where Re and Im of C_0 (O, 2N) are truncated normal with variance 1/fan_in."""
    K, O, N = _output_shape(settings)
    shape = (K, O, settings.blocks, 2 * N // settings.blocks)
    full = _truncated_normal(shape, 1 / fan_in, rng) + 1j * _truncated_normal(shape, 1 / fan_in, rng)
    return (full @ _block_basis(settings)).reshape(K, O, N)


def _s5_trunc_standard_normal(settings: Settings, rng: Rng) -> ComplexArray:
    """The code's default draws row by row, so the fan is one row and the variance is 1/(2N), not 1 as the name suggests."""
    return _s5_outputs(settings, 2 * settings.modes, rng)


def _s5_lecun_normal(settings: Settings, rng: Rng) -> ComplexArray:
    """Drawn as one tensor (O, 2N, 2), whose first axis is part of jax's fan: the variance is 1/(2 N O)."""
    return _s5_outputs(settings, 2 * settings.modes * settings.outputs, rng)


def _normal_outputs(settings: Settings, rng: Rng) -> ComplexArray:
    return _complex_normal(_output_shape(settings), 1, rng)


def _lru_outputs(settings: Settings, rng: Rng) -> ComplexArray:
    """Re and Im normal with standard deviation 1/sqrt(N)."""
    return _complex_normal(_output_shape(settings), 2 / settings.modes, rng)


def _xavier_inputs(settings: Settings, rng: Rng) -> ComplexArray:
    """E|B|^2 = 2/(I + N)."""
    return _complex_normal(_input_shape(settings), 2 / (settings.inputs + settings.modes), rng)


def _kaiming_inputs(settings: Settings, rng: Rng) -> ComplexArray:
    """E|B|^2 = 2/I."""
    return _complex_normal(_input_shape(settings), 2 / settings.inputs, rng)


def _xavier_outputs(settings: Settings, rng: Rng) -> ComplexArray:
    """E|C|^2 = 2/(N + O)."""
    return _complex_normal(_output_shape(settings), 2 / (settings.modes + settings.outputs), rng)


def _kaiming_outputs(settings: Settings, rng: Rng) -> ComplexArray:
    """E|C|^2 = 2/N."""
    return _complex_normal(_output_shape(settings), 2 / settings.modes, rng)


_HIPPO = "state-spaces/s4, src/models/hippo/hippo.py, `nplr`"
_S5 = "lindermanlab/S5, s5/ssm.py, `S5SSM.setup`, and s5/ssm_init.py"
_LRU = "arXiv 2303.06349, appendix A; NicolasZucchet/minimal-LRU, lru/model.py"
_XAVIER = "Glorot & Bengio (2010); for complex weights arXiv 1705.09792, section 3.6"
_KAIMING = "arXiv 1502.01852; for complex weights arXiv 1705.09792, section 3.6"

INPUT_INITIALIZATIONS: dict[str, MatrixInitialization] = {
    initialization.name: initialization
    for initialization in (
        MatrixInitialization("ones", "B = 1, S4D", "arXiv 2206.11893, section 4; state-spaces/s4, models/s4/s4d.py", _ones),
        MatrixInitialization(
            "normal", "Complex standard normal", "AnnanYu/FreqBiasSSM, src/models/sequence/modules/s4block.py", _normal_inputs
        ),
        MatrixInitialization("legs", "B of HiPPO-LegS in its eigenbasis, clipped", f"{_HIPPO}, 'legs'", _legs_inputs),
        MatrixInitialization("fout", "B of HiPPO-FouT in its eigenbasis", f"{_HIPPO}, 'foud'", _fourier_inputs),
        MatrixInitialization("s5", "Real LeCun normal in the eigenbasis of HiPPO-N", f"{_S5}, `init_VinvB`", _s5_inputs),
        MatrixInitialization("lru", "LRU, Glorot", _LRU, _lru_inputs),
        MatrixInitialization("xavier", "Xavier (Glorot) normal", _XAVIER, _xavier_inputs),
        MatrixInitialization("kaiming", "Kaiming (He) normal", _KAIMING, _kaiming_inputs),
    )
}

OUTPUT_INITIALIZATIONS: dict[str, MatrixInitialization] = {
    initialization.name: initialization
    for initialization in (
        MatrixInitialization(
            "normal",
            "Complex standard normal, S4D; S5's complex_normal",
            "arXiv 2206.11893; state-spaces/s4, models/s4/s4d.py; lindermanlab/S5, s5/ssm.py",
            _normal_outputs,
        ),
        MatrixInitialization("s5", "S5's trunc_standard_normal", f"{_S5}, `trunc_standard_normal`", _s5_trunc_standard_normal),
        MatrixInitialization("s5-lecun", "S5's lecun_normal", f"{_S5}, `init_CV`", _s5_lecun_normal),
        MatrixInitialization("lru", "LRU, Glorot", _LRU, _lru_outputs),
        MatrixInitialization("xavier", "Xavier (Glorot) normal", _XAVIER, _xavier_outputs),
        MatrixInitialization("kaiming", "Kaiming (He) normal", _KAIMING, _kaiming_outputs),
    )
}
