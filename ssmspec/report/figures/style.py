"""What all pictures share: colors, sizes, the frequency axis, and writing a figure to a file."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from ssmspec.errors import SsmspecError, printable
from ssmspec.files.writing import Kind, whole_file
from ssmspec.statistics import Curve, Spectrum
from ssmspec.systems.grid import FloatArray

COLOR_MAP = "cividis"  # safe for color-blind readers, and monotone in lightness, so it survives gray printing
LINE, BAND, MARK = "#00204d", "#9fb2d0", "#b3502f"
GRID = "0.9"
TITLE, LABEL, SMALL = 10, 9, 8  # points
DPI = 150
MOST_DECADES = 4  # of a logarithmic axis with minor ticks
MOST_NAME = 100  # at most this many bytes of a layer's or a checkpoint's name go into the file name of a picture
# text stays text in vector files, and the bytes are the same every time
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ssmspec",
    "pdf.fonttype": 42,
    "axes.labelsize": LABEL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
}
FORMATS: dict[str, dict[str, Any]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # suffix -> metadata

Layers = Collection[Any]  # LayerSpectrum or KernelSpectrum
AxisKind = Literal["theta", "cycles", "hertz", "omega"]


@dataclass(frozen=True, slots=True)
class FrequencyAxis:
    """The unit in which frequencies are drawn.

    Args:
        kind: theta [rad/sample], cycles per sample, hertz, or omega [rad/model time] of the continuous system.
        sample_rate: samples per second, for hertz.
    """

    kind: AxisKind = "theta"
    sample_rate: float | None = None

    @classmethod
    def at_rate(cls, sample_rate: float | None) -> "FrequencyAxis":
        """Hertz if a sample rate is given, else theta."""
        return cls() if sample_rate is None else cls("hertz", sample_rate)

    @property
    def unit(self) -> str:
        return {"theta": "rad/sample", "cycles": "cycles/sample", "hertz": "Hz", "omega": "rad/model time"}[self.kind]

    @property
    def label(self) -> str:
        return f"{self.kind if self.kind in ('theta', 'omega') else 'frequency'} [{self.unit}]"

    def values(self, frequencies: FloatArray) -> FloatArray:
        """Theta in the unit of this axis. Omega stays unchanged."""
        if self.kind in ("theta", "omega"):
            return frequencies
        return frequencies * (self.sample_rate or 1.0) / (2 * np.pi)

    def value(self, frequency: float) -> float:
        return float(self.values(np.array([frequency]))[0])


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style of all pictures within the block, and ignore the user's matplotlibrc."""
    with mpl.style.context(["default", STYLE]):
        yield


def save(figure: Figure, path: Path) -> Path:
    """Write a figure, completely or not at all, in the format of its suffix. It has no dates, so the same picture gives the same file.

    Raises:
        SsmspecError: the suffix is not a known format, or the file cannot be written.
    """
    kind = checked_format(path)
    FigureCanvasAgg(figure)
    with whole_file(path, Kind.picture) as file, mpl.rc_context(STYLE):
        _lay_out(figure)
        figure.savefig(file, format=kind[1:], dpi=DPI, metadata=FORMATS[kind])
    return path


def _lay_out(figure: Figure) -> None:
    """Place the axes once. Left to itself, `savefig` draws everything for that and throws it away.

    A wide logarithmic axis loses its minor ticks first: they lie too close to be read, and measuring them takes half the time of a picture.
    """
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = np.sort(axis.get_view_interval())
            if axis.get_scale() == "log" and high > low * 10**MOST_DECADES:
                axis.set_minor_locator(NullLocator())
    figure.set_dpi(DPI)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def checked_format(path: Path) -> str:
    """The suffix of a picture, in lower case.

    Raises:
        SsmspecError: the suffix is not in `FORMATS`.
    """
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise SsmspecError(f"{path} has no supported picture format; end its name in one of {', '.join(FORMATS)}")
    return kind


def new_figure(width: float, height: float) -> Figure:
    """An empty figure with a size in inches and automatic layout."""
    return Figure(figsize=(width, height), layout="constrained")


def list_height(rows: int) -> float:
    """Height in inches of a figure that lists layers down its side."""
    return max(2.6, 1.7 + 0.22 * rows)


def made_folder(folder: Path) -> Path:
    """The folder, created if missing.

    Raises:
        SsmspecError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SsmspecError(f"cannot create the folder {folder} for pictures: {error.strerror or error}") from error
    return folder


def safe_name(name: str) -> str:
    """The name of a layer in a form that fits a file name. A long name becomes its start and a hash."""
    safe = "".join(character if character.isalnum() or character in "._-" else "-" for character in name)
    if len(safe.encode()) <= MOST_NAME:
        return safe
    return f"{safe.encode()[:MOST_NAME].decode(errors='ignore')}-{_hash(name)}"


def safe_names(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Parts of file names that differ from each other and from those in `taken`, ignoring case."""
    used = {name.casefold() for name in taken}
    safe = []
    for name in names:
        part = safe_name(name)
        if part.casefold() in used:
            part = f"{part}-{_hash(name)}"
        used.add(part.casefold())
        safe.append(part)
    return safe


def _hash(name: str) -> str:
    return sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]


def literal(name: str) -> str:
    r"""A name from a file or a path as matplotlib draws it character by character: no mathtext, and escapes for what is not printable.

    An escaped dollar sign is no mathtext, wherever it stands. Source: matplotlib.cbook.is_math_text.
    """
    return printable(name).replace("$", r"\$")


def short_name(name: str, most: int = 40) -> str:
    """The name, or the end of a long name, which is the part that distinguishes layers; as `literal`."""
    return literal(name if len(name) <= most else "..." + name[-most + 3 :])


def head(figure: Figure, title: str, what: str) -> None:
    """Write two lines above a figure: whose it is, and what it shows."""
    figure.suptitle(f"{short_name(title, 60)}\n{what}", fontsize=TITLE)


def legend_below(figure: Figure, axes: Axes, columns: int = 3) -> None:
    """Put the legend of an axes below the whole figure, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))


def log_scale(axes: Axes) -> None:
    """Make the vertical axis logarithmic. Within one decade, its ticks are plain numbers."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 10 * low:
        for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            which(FuncFormatter(lambda value, _: f"{value:g}"))


def layer_title(layer: Spectrum) -> str:
    """Name, family and size of a layer."""
    system = layer.system
    channels = "" if system.inputs * system.outputs == 1 else f", {system.inputs} in, {system.outputs} out"
    return f"{short_name(system.name)} ({system.family}, {system.shape_text}{channels})"


def name_rows(axes: Axes, names: list[str]) -> None:
    """Name the layers down the side, the first at the top; row i extends from i to i + 1."""
    every = max(1, len(names) // 64)
    axes.set_ylim(len(names), 0)
    axes.set_yticks(np.arange(0, len(names), every) + 0.5, [short_name(name) for name in names[::every]], fontsize=SMALL)


def light_grid(axes: Axes, which: Literal["major", "minor", "both"] = "major") -> None:
    """Draw gray grid lines behind the data."""
    axes.grid(visible=True, which=which, color=GRID)
    axes.set_axisbelow(True)


def draw_curve(axes: Axes, x: FloatArray, curve: Curve, name: str) -> None:
    """Draw a median on its 5..95 % band, or the one curve of a single system, labeled with `name`."""
    if curve.p5 is not None and curve.p95 is not None:
        axes.fill_between(x, curve.p5, curve.p95, color=BAND, linewidth=0, label="5..95 % of copies")
        name = "median"
    axes.plot(x, curve.median, color=LINE, linewidth=1.5, label=name)


def frequency_scale(axes: Axes) -> None:
    """Make the horizontal axis logarithmic, with its ends close to those of the data."""
    axes.set_xscale("log")
    axes.margins(x=0.02)


def draw_nyquist(axes: Axes, at: float) -> None:
    """Draw a dashed line at the Nyquist frequency, the highest frequency that samples can represent."""
    axes.axvline(at, color=MARK, linestyle="--", linewidth=1, label="Nyquist")
