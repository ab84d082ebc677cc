"""Sequence mixers that are recognized by their tensors and not read, each with the reason. A file that holds one says so.

Each is a family whose `fixed` is the reason; none is in `FAMILIES`, so that nothing tries to read one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ssmspec.errors import LayerError
from ssmspec.families.prefixes import candidate_prefixes
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, Template, Tensor, fit
from ssmspec.systems.statespace import StateSpace

NO_BIAS = "its gates have no bias, so that at zero input they are 1/2 in every model"
BOUND_TO_GRID = "its filters are circular and bound to the grid that they were trained on"
NOT_LINEAR = "it is not linear at any useful operating point"


def _unread(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    raise LayerError(f"layer {layer.name} ({layer.family}) is recognized, and not read")


def _mixer(name: str, title: str, reason: str, source: str, *templates: Template, absent: tuple[str, ...] = ()) -> Family:
    return Family(name=name, title=title, source=source, templates=templates, read=_unread, fixed=reason, absent=absent)


NAMED: Mapping[str, Family] = {
    family.name: family
    for family in (
        _mixer(
            "min-gru",
            "minGRU",
            NO_BIAS,
            "lucidrains/minGRU-pytorch, minGRU_pytorch/minGRU.py; arXiv 2410.01201",
            {"gate": Slot("to_hidden_and_gate.weight", "2h d")},
        ),
        _mixer(
            "min-lstm",
            "minLSTM",
            NO_BIAS,
            "lucidrains/minGRU-pytorch, minGRU_pytorch/minLSTM.py; arXiv 2410.01201",
            {"gate": Slot("to_hidden_and_f_i_gate.weight|to_hidden_and_gates.weight", "3h d")},
            {name: Slot(f"linear_{name}.weight", "h d") for name in "fih"},
            absent=("linear_f.bias",),
        ),
        _mixer(
            "hgrn-unbounded",
            "HGRN without lower bounds",
            NO_BIAS,
            "fla-org/flash-linear-attention, fla/layers/hgrn.py, hgrn2.py, use_lower_bound",
            {"forget": Slot("attn.f_proj.weight", "h d"), "input": Slot("attn.i_proj.weight", "o d")},
        ),
        _mixer(
            "rwkv-5-early",
            "RWKV-5, an early version",
            "one decay and one bonus per head, in a form that later versions gave up",
            "BlinkDL/RWKV-LM, RWKV-v5/src/model.py before x052",
            {"decay": Slot("time_decay", "h|h 1"), "first": Slot("time_first|time_faaaa", "h|h 1"), "norm": Slot("ln_x.weight", "c")},
        ),
        _mixer(
            "slstm",
            "xLSTM, sLSTM",
            NOT_LINEAR,
            "NX-AI/xlstm, xlstm/blocks/slstm/cell.py; arXiv 2405.04517",
            {"recurrent": Slot("slstm_cell._recurrent_kernel_", "a b c|a b c d|a b")},
        ),
        _mixer(
            "gfnet",
            "GFNet",
            BOUND_TO_GRID,
            "raoyongming/GFNet, gfnet.py, GlobalFilter; arXiv 2107.00645",
            {"filter": Slot("complex_weight|complex_weights", "h w d ~|w d ~")},
        ),
        _mixer(
            "fno",
            "FNO",
            BOUND_TO_GRID,
            "neuraloperator/neuraloperator, neuralop/layers/spectral_convolution.py; arXiv 2010.08895",
            {"modes": Slot("weights1", "i o m ~|i o m n ~|i o m n k ~")},
            {"modes": Slot("fno_blocks.convs.0.weight.tensor|fno_blocks.convs.0.weight", "i o m ~|i o m n ~|i o m n k ~")},
        ),
        _mixer(
            "afno",
            "AFNO",
            NOT_LINEAR,
            "NVlabs/AFNO-transformer, afno/afno2d.py; arXiv 2111.13587",
            {"w1": Slot("w1", "2 k b c"), "b1": Slot("b1", "2 k c"), "w2": Slot("w2", "2 k c b"), "b2": Slot("b2", "2 k b")},
        ),
        _mixer(
            "sru",
            "SRU",
            NOT_LINEAR,
            "asappresearch/sru, sru/modules.py, SRUCell; arXiv 1709.02755",
            {"weight": Slot("weight", "i o"), "state": Slot("weight_c", "b"), "bias": Slot("bias", "b")},
        ),
        _mixer(
            "cornn",
            "coRNN",
            NOT_LINEAR,
            "tk-rusch/coRNN, coRNNCell; arXiv 2010.00951",
            {"weight": Slot("cell.i2h.weight", "h i"), "bias": Slot("cell.i2h.bias", "h")},
        ),
        _mixer(
            "unicornn",
            "UniCORNN",
            "its oscillators are undamped by design",
            "tk-rusch/unicornn, network.py; arXiv 2103.05487",
            {"step": Slot("c_", "h"), "weight": Slot("weight_hh", "h")},
        ),
        _mixer(
            "lmu",
            "LMU",
            "its matrices are constants of the architecture and not in the file",
            "hrshtv/pytorch-lmu, src/lmu.py; Voelker et al. 2019, Legendre Memory Units",
            {"x": Slot("e_x", "1 i|i"), "h": Slot("e_h", "1 h|h"), "m": Slot("e_m", "1 m|m")},
        ),
        _mixer(
            "longhorn",
            "Longhorn",
            "its pole is a function of the key, and nothing is stored that it has without one",
            "Cranial-XIX/longhorn, models/longhorn.py; arXiv 2407.14207",
            {"step": Slot("dt_head.weight", "d r"), "x_proj": Slot("x_proj.weight", "p d")},
            absent=("A_log",),
        ),
        _mixer(
            "ttt",
            "TTT",
            NOT_LINEAR,
            "test-time-training/ttt-lm-pytorch, ttt.py; arXiv 2407.04620",
            {"rate": Slot("learnable_ttt_lr_weight", "h a b"), "W1": Slot("W1", "h c d")},
        ),
        _mixer(
            "sincnet",
            "SincNet",
            "sample rate and kernel size are not in the file",
            "mravanelli/SincNet, dnn_models.py, SincConv_fast; arXiv 1808.00158",
            {"low": Slot("low_hz_", "n 1|n"), "band": Slot("band_hz_", "n 1|n")},
        ),
        _mixer(
            "leaf",
            "LEAF",
            "sample rate and kernel size are not in the file",
            "SarthakYadav/leaf-pytorch, leaf_pytorch/frontend.py; google-research/leaf-audio; arXiv 2101.08596",
            {"filters": Slot("_complex_conv._kernel|complex_conv._kernel|complex_conv.kernel", "n 2")},
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Recognized:
    """All layers of a file that hold one of these mixers.

    Args:
        family: key of `NAMED`. prefixes: their names in file order.
    """

    family: str
    prefixes: tuple[str, ...]

    def describe(self) -> str:
        """One line: what it is, how often, and why it is not read."""
        family, count = NAMED[self.family], len(self.prefixes)
        return f"{family.title} in {count} {'layer' if count == 1 else 'layers'}, recognized and not read: {family.fixed}"


def recognize(tensors: Mapping[str, Tensor], layers: Sequence[LayerTensors]) -> tuple[Recognized, ...]:
    """The mixers of a file that no layer claims, by names and shapes."""
    by_last_word: dict[str, list[str]] = defaultdict(list)
    for name in tensors:
        by_last_word[name.rsplit(".", 1)[-1]].append(name)
    taken = {name for layer in layers for name in layer.tensor_names.values()}
    within = tuple(layer.start for layer in layers if layer.family in ("hgrn", "hgrn2"))
    found = {family.name: _prefixes(family, tensors, by_last_word, taken, within) for family in NAMED.values()}
    return tuple(Recognized(name, tuple(prefix or "root" for prefix in prefixes)) for name, prefixes in found.items() if prefixes)


def _prefixes(
    family: Family, tensors: Mapping[str, Tensor], by_last_word: Mapping[str, Sequence[str]], taken: set[str], within: Iterable[str]
) -> list[str]:
    """Where a mixer is complete, outside of what layers hold, in file order."""
    result: dict[str, int] = {}
    position = {name: index for index, name in enumerate(tensors)}
    for template in family.templates:
        for prefix in candidate_prefixes(template, by_last_word, 1.0):
            found = fit(family, template, prefix, tensors)
            inside = family.name == "hgrn-unbounded" and any(prefix.startswith(start) for start in within)
            if found.complete and not inside and taken.isdisjoint(found.names.values()):
                result[prefix] = min(position[name] for name in found.names.values())
    return sorted(result, key=result.__getitem__)
