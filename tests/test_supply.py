"""What is built and what it needs: the wheel holds the package and nothing else, lower bounds are the versions that are tested, and nothing
is used that later versions of Python lack."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from locations import HANG

import ssmspec

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGE = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
SKIPPED = {"__pycache__"}


def requirements() -> list[str]:
    """Every direct dependency with its bounds, extras included, each once; those of ssmspec on its own extras are no packages."""
    everything = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    return sorted({line for line in everything if not line.startswith("ssmspec[")})


def name_of(requirement: str) -> str:
    return re.split(r"[\[>=<!;, ]", requirement, maxsplit=1)[0]


def release(version: str) -> tuple[int, ...]:
    """(1, 26) for 1.26 and 1.26.0 alike."""
    numbers = [int(part) for part in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    lines = (ROOT / "tests" / "oldest-requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split(";")[0].strip().split("==") for line in lines if line and not line.startswith("#"))
    bounds = {name_of(line): re.search(r">=([\d.]+)", line) for line in requirements()}
    assert all(bounds.values()), bounds
    assert {name: release(version) for name, version in pinned.items()} == {
        name: release(bound[1]) for name, bound in bounds.items() if bound
    }


@pytest.mark.parametrize("requirement", requirements())
def test_every_direct_dependency_is_reviewed(requirement: str) -> None:
    assert re.search(rf"\b{re.escape(name_of(requirement))}\b", PAGE), f"{name_of(requirement)} is not in docs/dependencies.md"


SOURCES = sorted(path for folder in ("ssmspec", "tests", "docs", "sample_checkpoints") for path in (ROOT / folder).rglob("*.py"))
GONE = {
    *("asynchat", "asyncore", "distutils", "imp", "smtpd"),  # since Python 3.12, as pkg_resources and setuptools from new environments
    *("pkg_resources", "setuptools"),
    *("aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "lib2to3", "mailcap", "msilib", "nis", "nntplib"),  # since 3.13
    *("ossaudiodev", "pipes", "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib"),
}
DEPRECATED = {"utcnow", "utcfromtimestamp", "find_module", "load_module", "makeSuite", "findTestCases", "resetlocale"}


def imported(nodes: Sequence[ast.AST]) -> set[str]:
    """The packages that a module imports."""
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in names}


def used(nodes: Sequence[ast.AST]) -> set[str]:
    """The attributes and named arguments that a module uses."""
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return attributes | {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}


def test_the_oldest_python_reads_every_file_and_nothing_is_used_that_later_ones_lack() -> None:
    oldest = tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
    found = {}
    for path in SOURCES:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of escapes that become errors
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"), path.name, feature_version=oldest)))
        found[path.relative_to(ROOT).as_posix()] = (imported(nodes) & GONE) | (used(nodes) & DEPRECATED)
    assert len(found) > 300
    assert {path: names for path, names in found.items() if names} == {}


COMPILE = "import pathlib, sys\nfor name in sys.argv[1:]: compile(pathlib.Path(name).read_bytes(), name, 'exec', dont_inherit=True)"


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_later_pythons_compile_every_file_without_a_warning(version: str) -> None:
    python = shutil.which(f"python{version}") or ""
    if not python or subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"no Python {version} here")
    done = subprocess.run([python, "-W", "error", "-c", COMPILE, *map(str, SOURCES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source archive, as the build backend makes them."""
    pytest.importorskip("hatchling")
    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("built")
    return tuple(Path(next(builder(str(ROOT)).build(directory=str(folder)))) for builder in (WheelBuilder, SdistBuilder))


def package_files() -> set[str]:
    files = (path for path in (ROOT / "ssmspec").rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if not SKIPPED & set(path.parts) and not path.name.startswith(".")}


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(built[0]).namelist())
    metadata = {name for name in names if name.startswith(f"ssmspec-{ssmspec.__version__}.dist-info/")}
    assert names - metadata == package_files()
    assert {name.split("/")[1] for name in metadata} == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses"}


def test_the_source_archive_holds_what_the_tests_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert package_files() <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "docs/statistics.md"} <= names
    assert "sample_checkpoints/s4d_trained.safetensors" in names
    assert not {name for name in names if SKIPPED & set(name.split("/"))}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "source archive"])
def test_what_is_built_can_be_installed_and_runs(kind: str, built: tuple[Path, Path], tmp_path: Path) -> None:
    archive = built[0] if kind == "wheel" else built[1]
    install = [
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--no-cache-dir",
        "--no-compile",
        "--target",
        str(tmp_path),
        str(archive),
    ]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, timeout=HANG)
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import ssmspec.__main__ as program; print(program.__file__); program.main()"
    sample = ROOT / "sample_checkpoints" / "s4d_trained.safetensors"
    command = [sys.executable, "-I", "-c", code, str(tmp_path), "analyze", str(sample)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=HANG)
    place, table = done.stdout.split("\n", 1)
    assert Path(place).is_relative_to(tmp_path)
    assert "s4_layers.0" in table
