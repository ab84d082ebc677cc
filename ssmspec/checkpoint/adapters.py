"""Adapters that are not merged: LoRA as peft stores it beside the weight that it changes.

    W = base + scaling B A,      A (r, inputs), B (outputs, r),      scaling = lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora

The weight takes the place of base_layer, lora_A and lora_B, under the name that it has without the adapter.
Source: peft, tuners/lora/layer.py (names, scaling, get_delta_weight), tuners/lora/config.py; utils/other.py (ModulesToSaveWrapper).
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmspec.checkpoint.derived import UNKNOWN, AnyTensor, DerivedTensor
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import problem, short

PART = re.compile(r"(?:(?P<module>.+?)\.)?(?P<kind>lora_A|lora_B|lora_magnitude_vector)(?:\.(?P<adapter>[^.]+))?(?:\.weight)?")
ANY_LORA = re.compile(r"(^|\.)lora_\w+(\.|$)")
CONFIG = "adapter_config.json"
CONFIG_KEYS = ("peft_config", "lora_config", "lora", "adapter")
SHOWN = 4  # names in a note


@dataclass(frozen=True, slots=True)
class _Adapter:
    """The parts of one adapter of one module."""

    name: str
    parts: Mapping[str, AnyTensor]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a configuration says of the scaling, and where it stands ("" where nothing does)."""

    told: Mapping[str, Any]
    place: str = ""

    def scaling(self, module: str, rank: int) -> tuple[float, str]:
        """The factor of B A, and where it is from.

        Raises:
            ValueError: numbers that contradict the tensors.
        """
        alpha = self._of(module, "alpha_pattern", self.told.get("lora_alpha"))
        if alpha is None:
            return 1.0, "no lora_alpha is known: taken as r"
        told = self._of(module, "rank_pattern", self.told.get("r", self.told.get("lora_r")))
        if type(alpha) not in (int, float) or not math.isfinite(alpha):
            raise ValueError(f"lora_alpha in {self.place} reads {short(str(alpha), 40)}, expected a number")
        if told is not None and told != rank:
            raise ValueError(f"r in {self.place} is {short(str(told), 40)}, and lora_A has {rank} rows: they belong to different adapters")
        root = self.told.get("use_rslora") is True
        return alpha / (math.sqrt(rank) if root else rank), f"lora_alpha / {'sqrt(r)' if root else 'r'} of {self.place}"

    def _of(self, module: str, pattern: str, default: object) -> Any:
        """An entry of a pattern (a name end or a regular expression's plain form) that speaks of the module, else the default."""
        entries = self.told.get(pattern)
        for key, value in entries.items() if isinstance(entries, dict) else ():
            if module == key or module.endswith(f".{key}"):
                return value
        return default


def settings_in(config: Mapping[str, object], beside: Mapping[str, object] | None) -> Settings:
    """The adapter's settings: of adapter_config.json, else of the configuration itself or a part of it."""
    if beside is not None:
        return Settings(beside, CONFIG)
    for place, told in (
        ("the configuration", config),
        *((key, config.get(key)) for key in ("peft_config", "lora_config", "lora", "adapter")),
    ):
        inner = told.get("default") if isinstance(told, dict) and isinstance(told.get("default"), dict) else told
        if isinstance(inner, Mapping) and "lora_alpha" in inner:
            return Settings(inner, place)
    return Settings({})


def refuse_alone(tensors: Mapping[str, AnyTensor], settings: Mapping[str, Any] | None, path: Location) -> None:
    """Refuses a file that holds adapters and none of the weights that they change.

    Raises:
        CheckpointError: with the base model where adapter_config.json names it, and how to merge.
    """
    modules = {match["module"] or "" for name in tensors if (match := PART.fullmatch(name)) is not None}
    others = (name for name in tensors if not ANY_LORA.search(name) and ".modules_to_save." not in name and not name.endswith(".bias"))
    if not modules or any(others):
        return
    told = settings or {}
    base = told.get("base_model_name_or_path")
    of = f" of {short(base, 80)}" if isinstance(base, str) and base else ""
    numbers = ", ".join(f"{key} {told[key]}" for key in ("r", "lora_alpha") if type(told.get(key)) in (int, float))
    target = f"{len(modules)} module{'s' if len(modules) > 1 else ''}"
    text = f"LoRA adapters alone{of} ({target}{', ' + numbers if numbers else ''}), without the weights that they change"
    raise problem(
        path, f"{text}; merge them: PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(new), and give that"
    )


def merged(tensors: Mapping[str, AnyTensor], settings: Settings, path: Location) -> tuple[dict[str, AnyTensor], tuple[str, ...]]:
    """The tensors with every adapted weight in the place of its parts, without the words of wrappers; and notes.

    Names that would then belong to two tensors keep those words.
    """
    adapters: dict[str, list[_Adapter]] = {}
    parts: dict[tuple[str, str], dict[str, AnyTensor]] = {}
    for name, tensor in tensors.items():
        match = PART.fullmatch(name)
        if match is not None:
            adapter = match["adapter"] or ""
            parts.setdefault((match["module"] or "", "" if adapter == "weight" else adapter), {})[match["kind"]] = tensor
    for (module, adapter), found in parts.items():
        adapters.setdefault(module, []).append(_Adapter(adapter, found))
    result: dict[str, DerivedTensor] = {}
    hidden: set[int] = set()
    unused = []
    for module, candidates in adapters.items():
        base_name = _base_of(module, tensors)
        if base_name is None:
            unused.append(module)
            continue
        weight = _adapted(module, tensors[base_name], candidates, settings, path)
        result[weight.name] = weight
        hidden |= {id(part) for part in weight.encoded}
    kept = {name: tensor for name, tensor in tensors.items() if id(tensor) not in hidden}
    shown, trained = _plain(kept, result)
    return shown, tuple(_notes(result.values(), unused, trained))


def _base_of(module: str, tensors: Mapping[str, AnyTensor]) -> str | None:
    start = f"{module}." if module else ""
    return next((name for name in (f"{start}base_layer.weight", f"{start}weight") if name in tensors), None)


def _adapted(module: str, base: AnyTensor, adapters: list[_Adapter], settings: Settings, path: Location) -> DerivedTensor:
    name = f"{module}.weight" if module else "weight"
    encoded = (base, *(tensor for adapter in adapters for tensor in adapter.parts.values()))
    words = f"{'base_layer' if '.base_layer.' in f'.{base.name}' else 'weight'} with {_named(adapters)}"
    try:
        if len(adapters) > 1:
            raise ValueError("which of several adapters is active is not stored")
        (adapter,) = adapters
        if "lora_magnitude_vector" in adapter.parts:
            raise ValueError("DoRA scales the columns, too, which is not done here")
        if isinstance(base, DerivedTensor) and base.refusal:
            raise ValueError(f"its base is {base.refusal}")
        A, B = (adapter.parts.get(kind) for kind in ("lora_A", "lora_B"))
        if A is None or B is None:
            raise ValueError(f"it lacks {'lora_A' if A is None else 'lora_B'}")
        rank = _rank(base, A, B)
        scaling, why = settings.scaling(module, rank)
    except ValueError as error:
        text = f"{words}, which cannot be added: {error}"
        return DerivedTensor(name, base.shape, path, words, encoded, refusal=text)

    def rows(first: int, last: int) -> NDArray[np.float32]:
        low, high = (_matrix(tensor.read(part)) for tensor, part in ((A, None), (B, slice(first, last))))
        values: NDArray[np.float32] = base.read(slice(first, last)).astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is reported as such
            delta = (np.float32(scaling) * (high @ low)).astype(np.float32)
            return values + delta.reshape(values.shape)

    origin = f"{words}: plus {scaling:g} lora_B lora_A ({why})"
    if isinstance(base, DerivedTensor):
        origin += f", base {base.origin}"
    return DerivedTensor(name, base.shape, path, origin, encoded, rows)


def _named(adapters: list[_Adapter]) -> str:
    names = [short(adapter.name, 40) for adapter in adapters if adapter.name]
    return f"adapter{'s' if len(adapters) > 1 else ''}{' ' + ', '.join(names[:SHOWN]) if names else ''}"


def _rank(base: AnyTensor, A: AnyTensor, B: AnyTensor) -> int:
    """r of an adapter that fits its weight.

    Raises:
        ValueError: shapes that do not fit.
    """
    shapes = f"lora_A {A.shape}, lora_B {B.shape}, base {base.shape}"
    if len(A.shape) < 2 or len(B.shape) < 2 or any(size != 1 for size in B.shape[2:]):
        raise ValueError(f"shapes do not fit: {shapes}")
    if not A.shape[0] or not B.shape[1]:
        raise ValueError(f"its rank r is 0: {shapes}")
    fitting = (B.shape[0], *A.shape[1:])
    fits = len(base.shape) == len(fitting) and all(have in (UNKNOWN, want) for have, want in zip(base.shape, fitting, strict=True))
    if B.shape[1] != A.shape[0] or not fits:
        raise ValueError(f"shapes do not fit: {shapes}")
    return A.shape[0]


def _matrix(values: NDArray[Any]) -> NDArray[np.float32]:
    return values.astype(np.float32).reshape(values.shape[0], -1)


def _plain(kept: Mapping[str, AnyTensor], weights: Mapping[str, AnyTensor]) -> tuple[dict[str, AnyTensor], list[str]]:
    """All tensors by their names without `base_layer.`, and the modules that were trained whole, whose copies take the originals' place."""
    copies = {name: re.sub(r"\.modules_to_save\.[^.]+\.", ".", name, count=1) for name in kept if ".modules_to_save." in name}
    trained = {plain for plain, count in Counter(copies.values()).items() if count == 1}  # of several copies none is known to be active
    result: dict[str, AnyTensor] = dict(weights)
    for name, tensor in kept.items():
        plain = copies.get(name) or name.replace(".base_layer.", ".").replace(".original_module.", ".")
        if name in copies or plain not in trained:
            taken = plain in result or (name in copies and plain not in trained)
            result[name if taken else plain] = tensor
    return result, sorted(trained)


def _notes(weights: Iterable[DerivedTensor], unused: list[str], trained: list[str]) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for weight in weights:
        groups.setdefault(weight.refusal or f"{weight.origin}, added where values are needed", []).append(weight.name)
    for text, names in list(groups.items())[:SHOWN]:
        yield f"{_some(names)}: {text}"
    if len(groups) > SHOWN:
        yield f"{_some([name for names in list(groups.values())[SHOWN:] for name in names])}: adapted likewise"
    if unused:
        yield f"adapters skipped, as the weights that they change are not here: {_some(unused)}"
    if trained:
        yield f"trained copies (modules_to_save) in place of the originals: {_some(trained)}"


def _some(names: list[str]) -> str:
    shown = ", ".join(short(name, 80) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
