"""Reports of small checkpoints, and pages as a reader of HTML sees them."""

import base64
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from examples_kernels import hyena
from locations import SAMPLES
from program import checkpoint, s4d_tensors

from ssmspec.commands.analyze import AnalysisOptions
from ssmspec.commands.report import Report, report
from ssmspec.families import ReadOptions
from ssmspec.report.html.page import load_libraries, report_page

HOSTILE = (
    *("<b>bold</b>", "<a href='https://x.y/'>link</a>", "</script><script>alert(1)</script>", "<!--<script>", "%{y}|%{x:.1f}"),
    *("$a$<br>&amp;&lt;b&gt;&#60;i", "a\u202eb", "{{ 7 * 7 }}", "\U0001f600" * 60),
)


class Page(HTMLParser):
    """The elements of a page in order, with the text of each up to its end or its last child."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside = False
        self.feed(content.decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")
        self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        """The attributes and the text of every element of a kind."""
        return [(found[1], text) for found, text in zip(self.elements, self.texts, strict=True) if found[0] == tag]

    @property
    def data(self) -> dict[str, Any]:
        """The document in the page."""
        (text,) = [text for attributes, text in self.all("script") if attributes.get("id") == "data"]
        return json.loads(text)


def unpacked(stored: dict[str, Any]) -> np.ndarray:
    """Numbers as the page reads them: base64 of float32, times a power of two."""
    return np.frombuffer(base64.b64decode(stored["data"]), "<f4").astype(float) * 2.0 ** stored["exponent"]


def page_of(found: Report, **options: Any) -> bytes:
    return report_page(found, load_libraries(), **options)


def report_of(*paths: Path | str, **options: Any) -> Report:
    return report([SAMPLES / path for path in paths], AnalysisOptions(**options))


def hostile(folder: Path) -> Path:
    """A checkpoint, one layer for each hostile name."""
    tensors = {}
    for place, name in enumerate(HOSTILE):
        layer = s4d_tensors(H=3, N=2)
        tensors |= {key.replace("layers.0", f"{name}.{place}"): value * (1 + 0.1 * place) for key, value in layer.items()}
    return checkpoint(folder, tensors, "<i>file&.safetensors")


def explicit(folder: Path) -> Report:
    """A report of a long filter of Hyena, which has no poles."""
    return report([_hyena(folder)], AnalysisOptions(read=ReadOptions(assume={"hyena_shift": "0.05"})))


def unreadable(folder: Path) -> Report:
    """A report of a file whose only layer cannot be read without an assumption."""
    return report([_hyena(folder)])


def _hyena(folder: Path) -> Path:
    tensors = {f"layers.0.{name}": np.array(value) for name, value in hyena(np.random.default_rng(0)).tensors.items()}
    return checkpoint(folder, tensors, "hyena.safetensors")


def run_folder(folder: Path, steps: tuple[int, ...] = (0, 10, 20, 30)) -> Path:
    """Checkpoints of two layers whose poles move."""
    folder.mkdir()
    for step in steps:
        tensors = s4d_tensors(layers=2)
        for name in list(tensors):
            if name.endswith("A_imag"):
                tensors[name] = tensors[name] * np.float32(1 + step / 10)
        checkpoint(folder, tensors, f"step-{step}.safetensors")
    return folder


def deepened(found: Report, layers: int) -> Report:
    """The same report as one of a model with many layers, all like the first."""
    deep = []
    for analysis in found.analyses:
        first = analysis.layers[0]
        copies = tuple(replace(first, name=f"model.blocks.{n}.mixer.kernel", index=n) for n in range(layers))
        deep.append(replace(analysis, layers=copies))
    comparison = found.comparison
    if comparison is not None:
        pair = comparison.layers[0]
        pairs = tuple(replace(pair, before=a, after=b) for a, b in zip(deep[0].layers, deep[1].layers, strict=True))
        comparison = replace(comparison, layers=pairs)
    return replace(found, analyses=tuple(deep), comparison=comparison)
