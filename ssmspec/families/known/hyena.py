"""Hyena, HyenaDNA and M2-BERT: the long filter, which a small network makes from positions.

    h[l] = MLP(z[l]) (exp(-t[l] |delta|) + shift),   MLP: linear layers with sin(freq x) between them, t from 0 to 1,
    z = (t, Re e, Im e),   e = exp(-i f 2 pi l/L),   f from 1e-4 to (E - 1)/2 - 1,   y = h * u + bias u

z and t are stored by most files. The activation is one module, so its freq is stored once for each of its uses. M2-BERT has a second
network of the same form for later inputs (see `ssmspec.families.kernel_sources`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption, Value
from ssmspec.families.configuration import model_types
from ssmspec.families.kernel_sources import FIXED, explicit, number_in, truth_in
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, Template
from ssmspec.systems.kernel import KernelSystem
from ssmspec.systems.statespace import FloatArray

SAFARI = "HazyResearch/safari, src/models/sequence/hyena.py, HyenaFilter"
DNA = "HazyResearch/hyena-dna, src/models/sequence/hyena.py, standalone_hyenadna.py"
M2 = "HazyResearch/m2, bert/src/mm/hyena_utils.py, HyenaFilter"
REVERSE = "reverse "  # roles of the second network begin so
DEEPEST = 6  # inner layers of the network; published files have two
LARGEST = 1e100  # of a parameter; no product of a few overflows
POSITIONS_AT_ONCE = 1 << 15
MOST_POSITIONS = 1 << 24


def _shift(layer: LayerTensors, config: Mapping[str, object]) -> tuple[Value, str] | None:
    found = number_in(config, "shift", "hyena_shift")
    if found is None and any(name.replace("_", "").replace("-", "") == "hyenadna" for name in model_types(config)):
        return 0.05, "that of HyenaDNA, which model_type of the configuration names"
    return found


SHIFT = Assumption(
    name="hyena_shift",
    about="what is added to the decay of the modulation",
    values=("0",),
    typical=0.05,
    source=f"{SAFARI}, ExponentialModulation (0); {DNA} (0.05)",
    told_by="shift or model_type of the configuration",
    told=_shift,
    keys=("shift",),
    required=True,
    published="hyena_shift=0 in safari, hyena_shift=0.05 in HyenaDNA",
)
NORMALIZED = Assumption(
    name="hyena_normalized",
    about="whether every position is divided by the sum of |h| over channels, after or before the modulation",
    values=("false", "after", "before"),
    source=f"{DNA} (after); {SAFARI} (before); false in the published configurations",
    told_by="normalized of the configuration, which then means after",
    told=lambda layer, config: None if (found := truth_in(config, "normalized")) is None else ("after" if found[0] else "false", found[1]),
    keys=("normalized",),
    quiet=True,
)
MODULATED = Assumption(
    name="hyena_modulate",
    about="whether the output of the network decays",
    values=("true", "false"),
    source=f"{SAFARI}, ExponentialModulation",
    told_by="modulate of the configuration",
    told=lambda layer, config: None if (found := truth_in(config, "modulate")) is None else ("true" if found[0] else "false", found[1]),
    keys=("modulate",),
    quiet=True,
)
LENGTH = Assumption(
    name="hyena_length",
    about="the length L of the filter",
    values=("1024",),
    typical=1024,
    source=f"{SAFARI}, seq_len",
    told_by="pos_emb.z; l_max, max_seq_len, max_position_embeddings or seq_len of the configuration",
    told=lambda layer, config: number_in(config, "l_max", "max_seq_len", "max_position_embeddings", "seq_len"),
    keys=("l_max", "max_seq_len", "max_position_embeddings", "seq_len"),
    applies=lambda layer, options: "z" not in layer,
    required=True,
    published="it is the longest input of the model",
)
FREQUENCY = Assumption(
    name="hyena_w",
    about="the frequency of the sine activations",
    values=("10",),
    typical=1,
    source=f"{SAFARI}, Sin (10), HyenaFilter (1)",
    told_by="implicit_filter.1.freq; w of the configuration",
    told=lambda layer, config: number_in(config, "w", "activation_freq"),
    keys=("w", "activation_freq"),
    applies=lambda layer, options: "freq" not in layer,
    required=True,
    published="hyena_w=10 for the default of the activation, 1 for that of the filter, 14 in other configurations",
)


@dataclass(slots=True)
class _Network:
    """The samples, generated for some channels and some positions at a time.

    Args:
        depth: layers of the network without the last. shift: None without modulation.
        which: what the roles of the network begin with.
    """

    layer: LayerTensors
    depth: int
    length: int
    frequency: FloatArray
    shift: float | None
    normalized: str
    which: str = ""
    shared: bool = True
    _sums: FloatArray | None = field(default=None)

    @property
    def known_finite(self) -> bool:
        """Sines are bounded, so finite parameters of usual size make finite samples, unless these are divided by a sum."""
        if self.normalized != "false" or not (np.isfinite(self.frequency).all() and np.isfinite(self.shift or 0.0)):
            return False
        return all(np.abs(self.layer.array(role)).max() < LARGEST for role in self.layer.tensors)

    def samples(self, start: int, stop: int) -> FloatArray:
        """As `KernelSource`: (stop - start, 1, 1, L)."""
        result = np.empty((stop - start, 1, 1, self.length))
        channels = slice(start, stop)
        for place, hidden, decay in self._positions():
            h = self._output(hidden, decay, channels)
            if self.normalized != "false":
                h = h / self._norms()[place, None]
            if self.normalized == "before":
                h = h * self._modulation(decay, channels)
            result[:, 0, 0, place] = h.T
        return result

    def _output(self, hidden: FloatArray, t: FloatArray, channels: slice) -> FloatArray:
        h = hidden @ self.layer.array(f"{self.which}W{self.depth}")[channels].T
        return np.asarray(h if self.normalized == "before" else h * self._modulation(t, channels))

    def _modulation(self, t: FloatArray, channels: slice) -> FloatArray:
        if self.shift is None:
            return np.ones((len(t), 1))
        rates = np.abs(self.layer.array("deltas").reshape(-1)[channels])
        return np.asarray(np.exp(-t[:, None] * rates) + self.shift)

    def _norms(self) -> FloatArray:
        """The sum of |h| over channels at every position, (L,)."""
        if self._sums is None:
            everything = slice(0, self.layer.sizes["H"])
            parts = [np.abs(self._output(hidden, t, everything)).sum(axis=1) for _, hidden, t in self._positions()]
            self._sums = np.concatenate(parts)
        return self._sums

    def _positions(self) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
        """The input of the last layer (n, width) and t (n,), for some positions at a time."""
        weights = [(self.layer.array(f"{self.which}W{i}"), self.layer.array(f"{self.which}b{i}")) for i in range(self.depth)]
        for start in range(0, self.length, POSITIONS_AT_ONCE):
            place = slice(start, min(start + POSITIONS_AT_ONCE, self.length))
            x, t = self._embedding(place)
            for weight, bias in weights:
                x = np.sin(self.frequency * (x @ weight.T + bias))
            yield place, x, t

    def _embedding(self, place: slice) -> tuple[FloatArray, FloatArray]:
        """z (n, E) and t (n,)."""
        width, count = self.layer.sizes["E"], place.stop - place.start
        t = np.arange(place.start, place.stop) / max(1, self.length - 1)
        if "t" in self.layer:
            t = self.layer.flat("t", place.start, place.stop)
        if "z" in self.layer:
            return self.layer.flat("z", place.start * width, place.stop * width).reshape(count, width), t
        bands = (width - 1) // 2
        turns = np.outer(np.arange(place.start, place.stop) * (2 * np.pi / self.length), np.linspace(1e-4, bands - 1, bands))
        return np.concatenate([t[:, None], np.cos(turns), -np.sin(turns)], axis=1), t


def read(layer: LayerTensors, options: ReadOptions) -> list[KernelSystem]:
    """One copy per channel, and per order above the second.

    Raises:
        LayerError: a length that is no natural number, or an embedding of an even width.
    """
    channels, depth = layer.sizes["H"], sum(role.startswith("b") and role[1:].isdigit() for role in layer.tensors)
    length = layer.sizes["L"] if "z" in layer else int(float(LENGTH.value(layer, options)))
    if not 0 < length <= MOST_POSITIONS:
        raise LayerError(f"layer {layer.name}: hyena_length is {length}, expected 1..{MOST_POSITIONS}")
    if layer.sizes["E"] % 2 == 0 or layer.sizes["E"] < 3:
        raise LayerError(f"layer {layer.name}: positions have {layer.sizes['E']} features; expected an odd number above 1")
    frequency = layer.array("freq").reshape(-1) if "freq" in layer else np.full(1, float(FREQUENCY.value(layer, options)))
    shift = None if MODULATED.value(layer, options) == "false" else float(SHIFT.value(layer, options))
    normalized = str(NORMALIZED.value(layer, options))
    network = partial(_Network, layer, depth, length, frequency, shift, normalized)
    ahead = network(REVERSE) if f"{REVERSE}W0" in layer else None
    skip = layer.array("bias") if "bias" in layer else np.zeros(channels)
    return explicit(layer, network(), length, skip, "without the gates, the short filter and the projections of the operator", ahead=ahead)


def _network(which: str, module: str, inner: int, group: str | None) -> Template:
    slots = {f"{which}W0": Slot(f"{module}.0.weight", "w E", group=group), f"{which}b0": Slot(f"{module}.0.bias", "w", group=group)}
    for i in range(1, inner + 1):
        slots[f"{which}W{i}"] = Slot(f"{module}.{2 * i}.weight", "w w", group=group)
        slots[f"{which}b{i}"] = Slot(f"{module}.{2 * i}.bias", "w", group=group)
    return {**slots, f"{which}W{inner + 1}": Slot(f"{module}.{2 * inner + 2}.weight", "H w", group=group)}


def _template(inner: int) -> Template:
    """The tensors of a network with so many inner layers."""
    return {
        **_network("", "implicit_filter", inner, None),
        **_network(REVERSE, "implicit_filter_rev", inner, "reverse"),
        "deltas": Slot("modulation.deltas", "1 1 H"),
        "freq": Slot("implicit_filter.1.freq", "1 w", optional=True),
        "bias": Slot("bias", "H", optional=True),
        "z": Slot("pos_emb.z", "1 L E", optional=True),
        "t": Slot("pos_emb.t", "1 L 1", optional=True),
    }


HYENA = Family(
    name="hyena",
    title="Hyena, HyenaDNA and M2-BERT, long filter",
    source=f"{SAFARI}; {DNA}; {M2}; arXiv 2302.10866, 2310.12109",
    templates=tuple(_template(inner) for inner in (2, *(n for n in range(DEEPEST, -1, -1) if n != 2))),
    read=read,
    fixed=FIXED,
    explicit=True,
    assumptions=(SHIFT, NORMALIZED, MODULATED, LENGTH, FREQUENCY),
)
