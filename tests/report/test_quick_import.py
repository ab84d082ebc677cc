"""Importing matplotlib without its help texts draws the same pictures, and leaves nothing of itself behind."""

import subprocess
import sys
from pathlib import Path

from locations import HANG

DRAWING = """
import sys
import numpy as np
{first}
import matplotlib as mpl
from matplotlib.figure import Figure
assert "matplotlib.pyplot" not in sys.modules
figure = Figure(figsize=(4, 3))
left, right = figure.subplots(1, 2)
(line,) = left.plot([1, 10, 100], [3, 2, 4], lw=2, label="$|H|$")
line.set(color="red", ls="--")
left.set(xscale="log", title="title")
left.legend()
right.pcolormesh(np.arange(12.0).reshape(3, 4))
right.text(1, 1, "text").set(ha="center", rotation=30)
figure.savefig({path!r})
from matplotlib import artist
assert artist.kwdoc(line).startswith("Properties:") and "color" in artist.ArtistInspector(line).get_setters()
from mpl_toolkits.mplot3d import Axes3D
assert Axes3D.name == "3d"
"""


def drawn(path: Path, first: str) -> bytes:
    code = DRAWING.format(first=first, path=str(path))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return path.read_bytes()


def test_pictures_are_the_same_and_what_was_replaced_is_put_back(tmp_path: Path) -> None:
    usual = drawn(tmp_path / "usual.png", "")
    quick = drawn(tmp_path / "quick.png", "from ssmspec.report.quick_import import import_quickly; import_quickly(); import_quickly()")
    assert quick == usual
