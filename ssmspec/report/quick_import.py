"""Importing matplotlib in a process that draws and ends."""

import sys
import warnings
from collections.abc import Callable
from functools import cache, cached_property
from importlib import import_module
from importlib.util import LazyLoader, find_spec, module_from_spec
from typing import Any


def import_quickly() -> None:
    """Import matplotlib without its help texts and its 3D axes, which take half of the time of the import.

    For a process of the command line: nobody reads `help(Line2D.set)` there. Nothing changes where matplotlib is imported already. All
    that is replaced during the import is put back. What reads the output of TeX is loaded when a style first asks for TeX, and formulas
    of one font share its files instead of searching for them again.
    """
    if "matplotlib.figure" in sys.modules:
        return
    _load_on_use("matplotlib.dviread")
    from matplotlib import artist

    if not (hasattr(artist, "ArtistInspector") and hasattr(artist, "kwdoc")):  # a version that makes its help texts in another way
        return
    inspector, table = artist.ArtistInspector, artist.kwdoc

    class Inspector(inspector):  # type: ignore[valid-type,misc]
        """Lists no setters, which only help texts and signatures do, and finds aliases where they are asked for."""

        def __init__(self, given: Any) -> None:
            self.given = given

        @cached_property
        def aliasd(self) -> dict[str, set[str]]:
            found: dict[str, set[str]] = inspector(self.given).aliasd
            return found

        def get_setters(self) -> list[str]:
            return []

    artist.ArtistInspector, artist.kwdoc = Inspector, lambda artist: ""  # type: ignore[assignment,misc]
    plain = _without_texts()
    without_3d = "mpl_toolkits.mplot3d" not in sys.modules
    if without_3d:
        sys.modules["mpl_toolkits.mplot3d"] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():  # that there are no 3D axes
            warnings.simplefilter("ignore")
            import_module("matplotlib.figure")
    finally:
        artist.ArtistInspector, artist.kwdoc = inspector, table  # type: ignore[misc]
        plain()
        if without_3d:
            del sys.modules["mpl_toolkits.mplot3d"]
    _share_fonts_of_formulas()


def _without_texts() -> Callable[[], None]:
    """Leave the help texts of decorated functions as they are in the source. Returns what puts the decorators back."""
    import matplotlib
    from matplotlib import _docstring

    places: list[tuple[Any, str, Callable[..., Any]]] = [
        (matplotlib, "_add_data_doc", lambda text, names: text),
        (_docstring.Substitution, "__call__", lambda self, decorated: decorated),
        (type(_docstring.interpd), "__call__", lambda self, decorated: decorated),
    ]
    usual = [(place, name, getattr(place, name)) for place, name, _ in places if hasattr(place, name)]
    for place, name, plain in places:
        if hasattr(place, name):
            setattr(place, name, plain)

    def put_back() -> None:
        for each in usual:
            setattr(*each)

    return put_back


def _load_on_use(name: str) -> None:
    """Put a module of a package in place that is executed when it is first used; not if it is loaded already."""
    spec = find_spec(name)
    if name in sys.modules or spec is None or spec.loader is None:
        return
    spec.loader = LazyLoader(spec.loader)
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    package, _, last = name.rpartition(".")
    setattr(sys.modules[package], last, module)  # found there, it is imported without being asked whether it is loaded


def _share_fonts_of_formulas() -> None:
    """Make one set of fonts for all formulas of one font and size. Matplotlib looks up its thirty files for every formula."""
    parser = import_module("matplotlib.mathtext").MathTextParser
    if hasattr(parser, "_font_type_mapping"):
        parser._font_type_mapping = {name: cache(fonts) for name, fonts in parser._font_type_mapping.items()}
