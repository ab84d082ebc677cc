"""CKConv: a sine network (SIREN) makes the kernel from positions between -1, the oldest sample, and 1, the newest.

    x = pos;   x = sin(omega_0 (W x + b)) twice;   k = W x + b,   W = g v/|v| by rows (weight norm)

The result is the weight of a convolution of torch, so its last sample acts first. An even number of samples gets one zero in front, which
acts last. Row o I + i of the last layer is the kernel from input i to output o.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.kernel_sources import FIXED, explicit, number_in
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.kernel import KernelSystem
from ssmspec.systems.statespace import FloatArray

SOURCE = "dwromero/ckconv, ckconv/nn/ckconv.py, functional/causalconv.py"
LAYERS = (0, 4, 8)
POSITIONS_AT_ONCE = 1 << 15
MOST_POSITIONS = 1 << 24


def _omega(layer: LayerTensors, config: Mapping[str, object]) -> tuple[float, str] | None:
    return number_in(config, "kernelcnn_omega_0", "omega_0", "ckconv_omega_0")


OMEGA = Assumption(
    name="ckconv_omega_0",
    about="the frequency of the sine network",
    values=("30",),
    typical=12.5,
    source=f"{SOURCE}; the experiments of the paper have one for every task",
    told_by="kernelcnn_omega_0 or omega_0 of the configuration",
    told=_omega,
    keys=("kernelcnn_omega_0", "omega_0"),
    required=True,
    published="one value for every task, from below 1 to 70: it is in the name or the script of an experiment, as kernelcnn_omega_0",
)


def _stored_length(layer: LayerTensors) -> int:
    """train_length, 0 where it is not stored or the module was never used."""
    return int(np.asarray(layer.tensors["length"].read()).reshape(-1)[0]) if "length" in layer else 0


LENGTH = Assumption(
    name="ckconv_length",
    about="the length of the inputs in training, which is that of the kernel",
    values=("1000",),
    typical=784,
    source=f"{SOURCE}, train_length",
    told_by="train_length; seq_length of the configuration",
    told=lambda layer, config: (
        (float(found), "train_length") if (found := _stored_length(layer)) > 0 else number_in(config, "seq_length", "train_length")
    ),
    keys=("seq_length", "train_length"),
    matters=lambda layer, options: not _stored_length(layer) or "ckconv_length" in options.assume,
    required=True,
    published="older files lack train_length; it is the length of the inputs of the task",
)


@dataclass(frozen=True, slots=True)
class _Network:
    """The samples of the one copy, made for some positions at a time."""

    layer: LayerTensors
    omega: float
    length: int
    shape: tuple[int, int]
    shared: bool = True
    known_finite: bool = False

    def samples(self, start: int, stop: int) -> FloatArray:
        """As `KernelSource`: (1, O, I, L), L one more than the number of positions where that is even."""
        O, I = self.shape
        count = self.length + (self.length % 2 == 0)
        kernel = np.zeros((O * I, count))
        layers = [(self._weight(i), self.layer.array(f"bias{i}")) for i in LAYERS]
        positions = np.linspace(-1, 1, self.length)
        for first in range(0, self.length, POSITIONS_AT_ONCE):
            x = positions[None, first : first + POSITIONS_AT_ONCE]
            for weight, bias in layers[:-1]:
                x = np.sin(self.omega * (weight @ x + bias[:, None]))
            x = layers[-1][0] @ x + layers[-1][1][:, None]
            begin = count - self.length + first
            kernel[:, begin : begin + x.shape[1]] = x
        return kernel[:, ::-1].reshape(1, O, I, count)[start:stop]

    def _weight(self, number: int) -> FloatArray:
        v = self.layer.array(f"v{number}")[:, :, 0]
        return np.asarray(self.layer.array(f"g{number}")[:, 0] * v / np.linalg.norm(v, axis=1, keepdims=True))


def read(layer: LayerTensors, options: ReadOptions) -> list[KernelSystem]:
    """One system with all inputs and outputs.

    Raises:
        LayerError: a network of other activations, a length that is no natural number, or outputs that do not divide the rows.
    """
    if "norm" in layer:
        raise LayerError(f"layer {layer.name}: its network has norms, so its activation is none that a tensor names; only sines are read")
    outputs, rows = layer.sizes["O"], layer.sizes["r"]
    if rows % outputs:
        raise LayerError(f"layer {layer.name}: {rows} kernels for {outputs} outputs; expected a multiple")
    length = float(LENGTH.value(layer, options))
    if length != int(length) or not 1 < length <= MOST_POSITIONS:
        raise LayerError(f"layer {layer.name}: ckconv_length is {length:g}, expected 2..{MOST_POSITIONS}")
    omega, shape = float(OMEGA.value(layer, options)), (outputs, rows // outputs)
    samples, constant = int(length) + (int(length) % 2 == 0), "the bias of the outputs is a constant and no part of the response"
    return explicit(layer, _Network(layer, omega, int(length), shape), samples, np.zeros((1, *shape)), constant)


_SHAPES = {0: ("w", "1"), 4: ("w", "w"), 8: ("r", "w")}

CKCONV = Family(
    name="ckconv",
    title="CKConv, continuous kernel convolution",
    source=f"{SOURCE}; arXiv 2102.02611",
    templates=(
        {
            **{f"v{i}": Slot(f"Kernel.kernel_net.{i}.weight_v", f"{rows} {columns} 1") for i, (rows, columns) in _SHAPES.items()},
            **{f"g{i}": Slot(f"Kernel.kernel_net.{i}.weight_g", f"{rows} 1 1") for i, (rows, _) in _SHAPES.items()},
            **{f"bias{i}": Slot(f"Kernel.kernel_net.{i}.bias", rows) for i, (rows, _) in _SHAPES.items()},
            "outputs": Slot("bias", "O"),
            "length": Slot("train_length", "1", optional=True),
            "norm": Slot("Kernel.kernel_net.2.weight", "w|w 1|1 w 1", optional=True),
        },
    ),
    read=read,
    fixed=FIXED,
    explicit=True,
    assumptions=(OMEGA, LENGTH),
)
