"""Importing matplotlib in a process that draws and ends."""

import sys
import warnings
from functools import cached_property
from importlib import import_module
from typing import Any


def import_quickly() -> None:
    """Import matplotlib without its help texts and its 3D axes, which take half of the time of the import.

    For a process of the command line: nobody reads `help(Line2D.set)` there. Nothing changes where matplotlib is imported already. All
    that is replaced during the import is put back.
    """
    if "matplotlib.figure" in sys.modules:
        return
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
    without_3d = "mpl_toolkits.mplot3d" not in sys.modules
    if without_3d:
        sys.modules["mpl_toolkits.mplot3d"] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():  # that there are no 3D axes
            warnings.simplefilter("ignore")
            import_module("matplotlib.figure")
    finally:
        artist.ArtistInspector, artist.kwdoc = inspector, table  # type: ignore[misc]
        if without_3d:
            del sys.modules["mpl_toolkits.mplot3d"]
