"""Many checkpoints in one table, Parquet, and the cache of results."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from jsonschema import validate
from locations import SAMPLES
from program import Type, checkpoint, s4d_tensors

from ssmspec.commands import cache as cache_module
from ssmspec.commands import each_file
from ssmspec.parallel import workplace
from ssmspec.report.documents.document import schema


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with five checkpoints of three layers, whose layers differ."""
    folder = tmp_path / "runs"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(5):
        tensors = s4d_tensors(layers=3)
        for name in tensors:
            if name.endswith("C"):
                tensors[name] = rng.normal(size=tensors[name].shape).astype(np.float32)
        checkpoint(folder, tensors, f"step{number}.safetensors")
    return folder


@pytest.fixture
def nothing_computed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, an analysis fails the test."""

    def forbid() -> None:
        def fail(*arguments: object, **options: object) -> None:
            raise AssertionError("an analysis")

        monkeypatch.setattr(each_file, "analyze_chosen", fail)

    return forbid


def table_rows(text: str) -> list[list[str]]:
    """The cells of the rows about checkpoints."""
    return [line.split() for line in text.splitlines() if line.split() and ".safetensors" in line.split()[0]]


def test_a_folder_is_one_table_with_medians_and_the_farthest_layer(runs: Path, typed: Type) -> None:
    shown = typed("analyze", runs)
    assert shown.code == 0
    documents = json.loads(typed("analyze", runs, "--json").out)
    assert [row[0] for row in table_rows(shown.out)] == [f"{runs}/step{number}.safetensors" for number in range(5)]
    for row, document in zip(table_rows(shown.out), documents, strict=True):
        slopes = {layer["name"]: layer["statistics"]["bias_slope"]["median"] for layer in document["layers"]}
        centers = [layer["statistics"]["center_frequency"]["median"] for layer in document["layers"]]
        middle = sorted(slopes.values())[1]
        name = max(slopes, key=lambda each: abs(slopes[each] - middle))
        assert row[1:] == ["3", f"{middle:.3g}", f"{median(centers):.3g}", name, f"({slopes[name]:.3g})"]


def test_rows_are_sorted_and_cut_as_asked(runs: Path, typed: Type) -> None:
    documents = json.loads(typed("analyze", runs, "--json").out)
    value = {
        document["checkpoint"]["path"]: median(layer["statistics"]["peak_gain"]["median"] for layer in document["layers"])
        for document in documents
    }
    falling = sorted(value, key=value.__getitem__, reverse=True)
    first = typed("analyze", runs, "--sort", "peak_gain", "--top", "2")
    assert [row[0] for row in table_rows(first.out)] == falling[:2]
    assert "... and 3 more" in first.out
    last = typed("analyze", runs, "--sort", "-peak_gain")
    assert [row[0] for row in table_rows(last.out)] == falling[::-1]


def test_more_than_ten_are_one_table_and_a_checkpoint_without_a_value_is_last(runs: Path, typed: Type) -> None:
    broken = s4d_tensors()
    broken["layers.0.kernel.C"][:] = np.nan
    paths = [*runs.iterdir(), *runs.iterdir(), checkpoint(runs.parent, broken, "nan.safetensors")]
    result = typed("analyze", *paths, "--sort", "-bias_slope")
    assert result.code == 2
    assert "no layer is usable" in result.err
    rows = table_rows(result.out)
    assert len(rows) == 11
    assert rows[-1][:4] == [str(paths[-1]), "1", "none", "none"]


def test_options_that_cannot_be_followed_are_refused(runs: Path, tmp_path: Path, typed: Type) -> None:
    np.savez(tmp_path / "c.npz", delta=np.ones(3))
    (tmp_path / "model.parquet").write_bytes(b"weights")
    for options, text in (
        (("--json", "--top", "3"), "--sort and --top are about the table"),
        (("--sort", "mood"), "--sort mood: not a statistic; choose one of bias_slope"),
        (("--cache", "c", "--plot", "p"), "--cache keeps no values of single copies"),
        (("--cache", "c", "--calibration", "c.npz"), "--cache with --calibration"),
        (("--parquet", "model.parquet"), "is not a Parquet table"),
        (("--cache", "c.npz/x"), "cannot create the folder"),
    ):
        result = typed("analyze", runs, *options)
        assert (result.code, result.out) == (2, "")
        assert text in result.err


def test_parquet_holds_the_rows_of_the_csv(runs: Path, typed: Type) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert typed("analyze", runs, "--csv", "a.csv", "--parquet", "a.parquet").code == 0
    table = parquet.read_table("a.parquet")
    rows = list(csv.reader(Path("a.csv").read_text().splitlines()))
    assert table.column_names == rows[0]
    found = [["" if value is None else value for value in row.values()] for row in table.to_pylist()]
    assert found == [
        [*row[:3], int(row[3]), int(row[4]), row[5], *(float(cell) if cell else "" for cell in row[6:9]), *row[9:]] for row in rows[1:]
    ]


def test_a_second_run_computes_nothing_and_says_so(runs: Path, typed: Type, nothing_computed: Callable[[], None]) -> None:
    plain = json.loads(typed("analyze", runs, "--json", "--csv", "0.csv").out)
    first = typed("analyze", runs, "--json", "--csv", "1.csv", "--cache", "cache")
    nothing_computed()
    second = typed("analyze", runs, "--json", "--csv", "2.csv", "--cache", "cache")
    assert second.code == 0
    assert Path("0.csv").read_text() == Path("1.csv").read_text() == Path("2.csv").read_text()
    for result, cached in ((first, False), (second, True)):
        documents = json.loads(result.out)
        for document in documents:
            validate(document, schema("analyze-1"))
            assert document["checkpoint"].pop("cached") is cached
        assert documents == plain
    assert second.out == first.out.replace('"cached": false', '"cached": true')
    # statistics that another table needs are other options
    with pytest.raises(AssertionError, match="an analysis"):
        typed("analyze", runs, "--cache", "cache")


def test_the_table_says_what_came_from_the_cache(runs: Path, typed: Type) -> None:
    assert "0 of 5 checkpoints from the cache, 5 analyzed" in typed("analyze", runs, "--cache", "cache").out
    (runs / "step2.safetensors").write_bytes((runs / "step3.safetensors").read_bytes())
    (runs / "step5.safetensors").write_bytes((SAMPLES / "s4d_trained.safetensors").read_bytes())
    shutil.copy(runs / "step1.safetensors", runs / "step6.safetensors")  # under another name
    second = typed("analyze", runs, "--cache", "cache")
    assert "6 of 7 checkpoints from the cache, 1 analyzed" in second.out
    assert [row[0] for row in table_rows(second.out)] == [f"{runs}/step{number}.safetensors" for number in range(7)]
    assert table_rows(second.out)[6][1:] == table_rows(second.out)[1][1:]
    assert typed("analyze", runs).out.split("values are")[0] == second.out.split("values are")[0]


def damaged(folder: Path) -> None:
    for path in (folder / "results").rglob("*.json"):
        path.write_bytes(path.read_bytes()[:-20])


CHANGES: dict[str, Callable[[Path, Path, pytest.MonkeyPatch], Any]] = {
    "a value": lambda runs, cache, patch: (runs / "step0.safetensors").write_bytes((runs / "step1.safetensors").read_bytes()),
    "a sidecar": lambda runs, cache, patch: (runs / "step0.safetensors.ssmspec.json").write_text("{}"),
    "a damaged cache": lambda runs, cache, patch: damaged(cache),
    "another version": lambda runs, cache, patch: patch.setattr(cache_module, "__version__", "0.0.0"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_analyzed_again(
    change: str, runs: Path, typed: Type, monkeypatch: pytest.MonkeyPatch, nothing_computed: Callable[[], None]
) -> None:
    assert typed("analyze", runs / "step0.safetensors", "--cache", "cache").code == 0
    CHANGES[change](runs, Path("cache"), monkeypatch)
    nothing_computed()
    with pytest.raises(AssertionError, match="an analysis"):
        typed("analyze", runs / "step0.safetensors", "--cache", "cache")


def test_copies_of_a_file_give_the_same_with_any_number_of_jobs(runs: Path, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workplace, "cores", lambda: 2)
    for number in range(5):
        shutil.copy(runs / "step0.safetensors", runs / f"step{number + 5}.safetensors")
    alone = [typed("analyze", runs, "--json", "--cache", "one") for _ in range(2)]
    both = [typed("analyze", runs, "--json", "--cache", "two", "--jobs", "2") for _ in range(2)]
    assert alone == both
    assert alone[0].out.count('"cached": false') == 10
    assert alone[1].out.count('"cached": true') == 10
    assert not list(Path("two").rglob("*.partial"))


def test_a_file_on_a_server_is_known_by_its_etag(
    runs: Path, typed: Type, monkeypatch: pytest.MonkeyPatch, nothing_computed: Callable[[], None]
) -> None:
    pytest.importorskip("aiohttp")
    from range_server import serving

    with serving(runs) as rules:
        address = f"{rules.url}/step0.safetensors"
        first = json.loads(typed("analyze", address, "--json", "--cache", "cache").out)
        before = len(rules.asked)
        with monkeypatch.context() as patch:
            patch.setattr(each_file, "analyze_chosen", None)
            second = json.loads(typed("analyze", address, "--json", "--cache", "cache").out)
        asked = rules.asked[before:]
        assert second["layers"] == first["layers"]
        assert second["checkpoint"]["cached"] is True
        assert second["checkpoint"]["read"]["bytes"] <= first["checkpoint"]["read"]["bytes"]
        assert 0 < len(asked) <= before
        shutil.copy(runs / "step1.safetensors", runs / "step0.safetensors")
        nothing_computed()
        with pytest.raises(AssertionError, match="an analysis"):
            typed("analyze", address, "--json", "--cache", "cache")


def test_a_long_table_has_the_cells_of_short_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows beyond a hundred are laid out without rich, which is slow; on a narrow terminal no number is split in either."""
    from rich.console import Console

    from ssmspec.report.documents.rendering import FileRow
    from ssmspec.report.tables.many_files import files_table

    units = {"bias_slope": "decades/decade"}
    rows = [FileRow(f"runs/学{number}.pt", 2, {"bias_slope": number / 7}, {"bias_slope": ("a", 1.5)}, units, None) for number in range(150)]

    def cells(some: list[FileRow], width: int) -> list[list[str]]:
        console = Console(width=width, record=True)
        console.print(files_table(some, ["bias_slope"]), highlight=False)
        return [line.split() for line in console.export_text().splitlines() if ".pt" in line or line.startswith("  bias_slope")]

    for width in (200, 40):
        assert cells(rows, width) == [row for start in range(0, 150, 50) for row in cells(rows[start : start + 50], width)]
    assert len(cells(rows, 200)) == 150
    assert [row[-1] for row in cells(rows, 40) if row[0] == "bias_slope"] == [f"{number / 7:.3g}" for number in range(150)]


def test_an_engine_is_chosen_for_all_files_of_a_command(runs: Path, typed: Type) -> None:
    """NumPy is enough for one of them, but compiled code is loaded for a thousand."""
    from ssmspec.commands.analyze import AnalysisOptions, analyze

    path = next(runs.iterdir())
    alone, among = (analyze(path, AnalysisOptions(files=files)) for files in (1, 1000))
    assert (alone.backend, among.backend) == ("reference", "cpu")
    for ours, theirs in zip(alone.layers, among.layers, strict=True):
        assert ours.statistics["bias_slope"].median == pytest.approx(theirs.statistics["bias_slope"].median, rel=1e-12)
