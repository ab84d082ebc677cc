"""Tensors that a model was split into for tensor parallelism, joined again: which axis each was cut along, by names and shapes.

A projection that yields several parts (z, x, B, C and dt of Mamba-2; x and z of Mamba-1; gate and value of a gated MLP) was cut in each of
them, so that a rank holds a piece of every part; B and C are whole in every rank where there are fewer groups than ranks.
Sources: Megatron-LM, core/ssm/mamba_mixer.py (sharded_state_dict, partition_sizes), core/tensor_parallel/layers.py, legacy/model;
state-spaces/mamba, mamba_ssm/modules/mamba2.py (process_group).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssmspec.checkpoint.derived import AnyTensor, JoinedTensor, NamedTensor, Piece, concatenated
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import problem, short

Ranks = Sequence[Mapping[str, AnyTensor]]
Sections = Sequence[tuple[int, Sequence[int]]]  # rows of a part in one rank, and the ranks to take it from

ROWS = (  # cut along axis 0
    *("A_log", "D", "dt_bias", "dt_proj.weight", "dt_proj.bias", "word_embeddings.weight", "output_layer.weight", "lm_head.weight"),
    *("linear_qkv.weight", "linear_qkv.bias", "query_key_value.weight", "query_key_value.bias", "linear_q_proj.weight"),
    *("linear_kv_up_proj.weight", "linear_q_up_proj.weight"),
)
COLUMNS = ("out_proj.weight", "linear_proj.weight", "linear_fc2.weight", "dense_4h_to_h.weight", "dense.weight", "x_proj.weight")
GATED = ("linear_fc1.weight", "linear_fc1.bias", "dense_h_to_4h.weight", "dense_h_to_4h.bias")
WHOLE = (  # the same in every rank
    *("layer_norm_weight", "layer_norm_bias", "out_proj.bias", "linear_proj.bias", "linear_fc2.bias", "dense_4h_to_h.bias", "dense.bias"),
    *("position_embeddings.weight", "router.weight", "router.expert_bias", "linear_q_down_proj.weight", "linear_kv_down_proj.weight"),
)
GROUPS = ("mamba_num_groups", "n_groups", "ngroups", "mamba_n_groups", "mamba_ngroups")
STATES = ("mamba_state_dim", "state_size", "d_state", "ssm_state_size")
COMPARED = (64, 4)  # rows of B and C in conv1d and in in_proj that are compared to tell whether ranks share them

PART_ORDERS = (
    ("z", "x", "B", "C", "dt"),  # in_proj of Mamba-2
    ("x", "B", "C"),  # conv1d of Mamba-2
    ("query", "key", "value", "z", "beta", "alpha"),  # in_proj of a gated delta net
    ("query", "key", "value"),  # its conv1d
)


def join_ranks(ranks: Ranks, config: Mapping[str, object], path: Location) -> tuple[dict[str, AnyTensor], list[str]]:
    """The tensors of the whole model, and the names of those that no rule joins.

    Args:
        ranks: tensors by name, in the order of the ranks; the names agree. config: of the model, for the groups of B and C and for gates.
        path: the folder, for messages.
    Raises:
        CheckpointError: a name that some rank lacks, or shapes that do not fit together.
    """
    for number, rank in enumerate(ranks):
        for name in ranks[0].keys() ^ rank.keys():
            lacking = number if name in ranks[0] else 0
            raise problem(
                path, f"rank {lacking} lacks tensor '{short(name)}', which rank {number - lacking} has; fetch all ranks of one step"
            )
    if len(ranks) == 1:
        return dict(ranks[0]), []
    joined: dict[str, AnyTensor] = {}
    left = []
    blocks: dict[str | None, _Block] = {}
    for name in ranks[0]:
        module = name.rpartition(".")[0]
        prefix = next((place for place in (module, module.rpartition(".")[0]) if _at(place, "A_log") in ranks[0]), None)
        if prefix not in blocks:
            blocks[prefix] = _block(ranks, prefix, config, path)
        found = blocks[prefix].join(name, [rank[name] for rank in ranks])
        if found is None:
            left.append(name)
        else:
            joined[name] = found
    return joined, left


@dataclass(frozen=True, slots=True)
class _Block:
    """How the tensors around one prefix were cut.

    Args:
        ranks: all of them. gated: the first projection of an MLP yields gate and value.
        prefix: of the mixer, "" at the root. kind: "mamba-1", "mamba-2", "heads" for other mixers with A_log, "" without one.
        inner, heads, state: channels, heads and rows of B in one rank. holders: the ranks whose B and C differ from those before.
    """

    path: Location
    ranks: tuple[int, ...]
    gated: bool
    prefix: str = ""
    kind: str = ""
    inner: int = 0
    heads: int = 0
    state: int = 0
    holders: tuple[int, ...] = ()

    def join(self, name: str, parts: Sequence[AnyTensor]) -> AnyTensor | None:
        """A tensor from its parts; None where no rule says how."""
        own = name[len(self.prefix) + 1 :] if self.prefix else name
        sections = self._sections(own)
        last = ".".join(name.split(".")[-2:])
        if sections is not None:
            return self._in_sections(name, parts, sections)
        if own in ("norm.weight", "norm.bias") and self.kind == "mamba-2":
            return self._rows(name, parts) if parts[0].shape == (self.inner,) else self._same(name, parts)
        if name.rpartition(".")[2] in ROWS or last in ROWS:
            return self._rows(name, parts)
        if last in COLUMNS:
            return concatenated(name, self.path, parts, 1)
        if last in GATED:
            gates = 2 if self.gated else 1
            return self._in_sections(name, parts, [(parts[0].shape[0] // gates, self.ranks)] * gates)
        if name.rpartition(".")[2] in WHOLE or last in WHOLE or "norm" in last:
            return self._same(name, parts)
        return None

    def _sections(self, own: str) -> Sections | None:
        inner = (self.inner, self.ranks)
        if self.kind == "mamba-1":
            found: Mapping[str, Sections] = {"in_proj": [inner, inner], "conv1d": [inner]}
        elif self.kind == "mamba-2":
            both = (self.state, self.holders)
            found = {"in_proj": [inner, inner, both, both, (self.heads, self.ranks)], "conv1d": [inner, both, both]}
        else:
            return None
        module = own.removesuffix("weight").removesuffix("bias")
        return found.get(module[:-1]) if module[-1:] in (".", "_") and module != own else None

    def _in_sections(self, name: str, parts: Sequence[AnyTensor], sections: Sections) -> JoinedTensor:
        shape = parts[0].shape
        if any(part.shape != shape or part.dtype != parts[0].dtype for part in parts) or not shape:
            seen = " and ".join(f"{part.shape} {part.dtype}" for part in parts[:4])
            raise problem(self.path, f"the parts of tensor '{short(name)}' differ: {seen}; fetch all ranks of one step")
        if sum(rows for rows, _ in sections) != shape[0]:
            raise problem(self.path, f"tensor '{short(name)}' of one rank has shape {shape}, expected {sum(r for r, _ in sections)} rows")
        pieces, source, target = [], 0, 0
        rest, zeros = shape[1:], (0,) * (len(shape) - 1)
        for rows, holders in sections:
            for part in (parts[rank] for rank in holders):
                pieces.append(Piece(part, (source, *zeros), (rows, *rest), (target, *zeros)))
                target += rows
            source += rows
        return JoinedTensor(name, (target, *rest), parts[0].dtype, self.path, tuple(pieces))

    def _rows(self, name: str, parts: Sequence[AnyTensor]) -> JoinedTensor:
        """Along the first axis that is more than 1: some mixers store A_log as (1, 1, heads, 1)."""
        axis = next((axis for axis, size in enumerate(parts[0].shape) if size > 1), 0)
        return concatenated(name, self.path, parts, axis)

    def _same(self, name: str, parts: Sequence[AnyTensor]) -> AnyTensor:
        if any(part.shape != parts[0].shape for part in parts):
            raise problem(
                self.path, f"tensor '{short(name)}', which every rank should have alike, has different shapes; fetch all ranks again"
            )
        return parts[0]


def _at(prefix: str, own: str) -> str:
    return f"{prefix}.{own}" if prefix else own


def _block(ranks: Ranks, prefix: str | None, config: Mapping[str, object], path: Location) -> _Block:
    """The block of a mixer, by the shapes of its tensors in the first rank; for None that of everything that is in no mixer.

    Raises:
        CheckpointError: rows that leave no place for the parts of a Mamba-2 mixer.
    """
    everyone = tuple(range(len(ranks)))
    gated = any(config.get(key) is True for key in ("swiglu", "gated_linear_unit"))
    if prefix is None:
        return _Block(path, everyone, gated)
    first = ranks[0]
    shape = first[_at(prefix, "A_log")].shape
    if len(shape) == 2:
        return _Block(path, everyone, gated, prefix, "mamba-1", shape[0])
    conv = next((name for own in ("conv1d.weight", "conv1d_weight") if (name := _at(prefix, own)) in first), None)
    projection = first.get(_at(prefix, "in_proj.weight"))
    if conv is None or projection is None or len(shape) != 1:
        return _Block(path, everyone, gated, prefix, "heads")
    (heads,), rows, channels = shape, projection.shape[0], first[conv].shape[0]
    inner = rows - channels - heads
    state, odd = divmod(channels - inner, 2)
    if inner < heads or state < 1 or odd:
        return _Block(path, everyone, gated, prefix, "heads")
    holders = _holders(ranks, (conv, _at(prefix, "in_proj.weight")), (inner, state), config)
    return _Block(path, everyone, gated, prefix, "mamba-2", inner, heads, state, holders)


def _holders(ranks: Ranks, names: tuple[str, str], sizes: tuple[int, int], config: Mapping[str, object]) -> tuple[int, ...]:
    """The ranks from which B and C are taken: all, or of ranks that hold the same ones the first.

    By the configured numbers of groups and states, else by their rows in conv1d, and in in_proj where those are the same.
    """
    inner, state = sizes
    groups, states = (next((n for key in keys if type(n := config.get(key)) is int and n > 0), None) for keys in (GROUPS, STATES))
    if isinstance(groups, int) and isinstance(states, int) and groups * states in (state, state * len(ranks)):
        return (0,) if groups * states == state else tuple(range(len(ranks)))
    samples = []
    for rank in ranks:
        rows = [
            _sample(rank[name], start, min(count, 2 * state))
            for name, start, count in zip(names, (inner, 2 * inner), COMPARED, strict=True)
        ]
        samples.append(np.concatenate(rows))
    return (0, *(rank for rank in range(1, len(ranks)) if not np.array_equal(samples[rank - 1], samples[rank], equal_nan=True)))


def _sample(tensor: NamedTensor, start: int, count: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    return tensor.read(slice(start, start + count)).astype(np.float64).reshape(-1)


def join_parts(tensors: Mapping[str, AnyTensor], path: Location) -> dict[str, AnyTensor]:
    """Projections that a checkpoint stores part by part (`in_proj.weight.z`, `.x`, `.B`, `.C`, `.dt`) as one tensor each."""
    result = dict(tensors)
    modules = {name.rpartition(".")[0] for name in tensors if name.rpartition(".")[0].endswith(("weight", "bias"))}
    for module in sorted(modules):
        own = {name.rpartition(".")[2] for name in (f"{module}.{part}" for order in PART_ORDERS for part in order) if name in tensors}
        order = next((order for order in PART_ORDERS if set(order) == own), None)
        if order is not None and module not in tensors:
            parts = [result.pop(f"{module}.{part}") for part in order]
            result[module] = concatenated(module, path, parts, 0)
    return result
