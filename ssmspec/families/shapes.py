"""Shapes of the tensors of a layer in symbols.

A shape is a list of symbols that must agree within a layer ("H N" and "H"), numbers, multiples ("2N"), products ("K*H", in which all
factors but one are known from earlier slots), alternatives ("H 1|H N"), and "~" for complex values: a trailing axis of 2, or a complex
dtype.
"""

from collections.abc import Mapping

COMPLEX = "~"


def fitting_symbols(shape: str, actual: tuple[int, ...], sizes: dict[str, int], *, parts: bool) -> list[str] | None:
    """The symbols of the alternative that a tensor has, or None; sizes that it tells are added.

    Args:
        parts: whether complex values are pairs of real numbers on a trailing axis.
    """
    for alternative in shape.split("|"):
        trial, symbols = dict(sizes), alternative.split()
        if _fits(symbols, actual, trial, parts):
            sizes.update(trial)
            return symbols
    return None


def sized(symbols: list[str], sizes: Mapping[str, int], *, parts: bool) -> tuple[int, ...]:
    """The shape that symbols stand for when all sizes are known."""
    axes = tuple(_size(symbol, sizes) for symbol in symbols if symbol != COMPLEX)
    return (*axes, 2) if parts and symbols[-1:] == [COMPLEX] else axes


def _size(symbol: str, sizes: Mapping[str, int]) -> int:
    product = 1
    for part in symbol.split("*"):
        letter = part.lstrip("0123456789")
        product *= int(part.removesuffix(letter) or 1) * (sizes[letter] if letter else 1)
    return product


def _fits(symbols: list[str], actual: tuple[int, ...], sizes: dict[str, int], parts: bool) -> bool:
    if symbols and symbols[-1] == COMPLEX:
        symbols = symbols[:-1]
        if parts:
            if not actual or actual[-1] != 2:
                return False
            actual = actual[:-1]
    if len(symbols) != len(actual):
        return False
    # a size below zero: nothing tells it
    return all(size < 0 or _fits_axis(symbol, size, sizes) for symbol, size in zip(symbols, actual, strict=True))


def _fits_axis(symbol: str, size: int, sizes: dict[str, int]) -> bool:
    """One axis: a number times symbols, of which at most one may be unknown so far."""
    product, unknown = 1, ""
    for part in symbol.split("*"):
        letter = part.lstrip("0123456789")
        product *= int(part.removesuffix(letter) or 1) * sizes.get(letter, 1)
        if letter and letter not in sizes:
            if unknown:
                return False
            unknown = letter
    if unknown:
        product *= sizes.setdefault(unknown, size // product)
    return product == size != 0
