"""The structure of the package: which module imports which, what is loaded when, and what is documented."""

import ast
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from locations import HANG

import ssmspec
from ssmspec.cli import whole_app
from ssmspec.families import FAMILIES
from ssmspec.report.figures import FIGURES
from ssmspec.statistics import STATISTICS
from ssmspec.training.tasks import TASKS

PACKAGE = Path(ssmspec.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# from the ground up: a room imports only rooms before it
ROOMS = (
    *("version", "errors", "files", "backends", "parallel", "systems", "checkpoint", "statistics", "tuning", "families", "checking", "nn"),
    *("commands", "benchmarks", "report", "api", "training", "monitoring", "probing", "__init__", "cli", "__main__"),
)


@cache
def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def room(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(module: Path) -> set[str]:
    """The rooms that a module imports, inside functions and for type checkers, too."""
    found = set()
    for node in ast.walk(tree(module)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "ssmspec" else [node.module or ""]
        parts = [name.split(".") for name in names]
        found |= {part[1] if len(part) > 1 and part[1] in ROOMS else "__init__" for part in parts if part[0] == "ssmspec"}
    return found - {room(module)}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_before_it(module: Path) -> None:
    assert imported_rooms(module) <= set(ROOMS[: ROOMS.index(room(module))])


def test_modules_of_two_rooms_share_a_name_only_where_they_serve_one_thing() -> None:
    commands = (command.name or command.callback.__name__ for command in whole_app().registered_commands)
    shared = {name.replace("-", "_") for name in (*commands, *FAMILIES, *TASKS, *STATISTICS, *FIGURES)}
    rooms: dict[str, set[str]] = {}
    for module in MODULES:
        rooms.setdefault(module.stem, set()).add(room(module))
    assert {name: found for name, found in rooms.items() if len(found) > 1 and name not in shared | {"__init__"}} == {}


def test_no_module_outgrows_one_reading() -> None:
    sizes = {str(module.relative_to(PACKAGE)): len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES}
    assert {name: size for name, size in sizes.items() if size > 400} == {}


def test_only_systems_know_what_kinds_of_layers_there_are() -> None:
    """Everybody else asks a layer itself (`ssmspec.systems.system.System`), so that what works for one kind works for the other."""
    kinds = {"StateSpace", "KernelSystem", "LayerSpectrum", "KernelSpectrum"}
    asked = []
    for module in MODULES:
        for node in ast.walk(tree(module)) if room(module) != "systems" else ():
            asks = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass", "type")
            if (asks or isinstance(node, ast.MatchClass)) and kinds & set(re.findall(r"\w+", ast.unparse(node))):
                asked.append(f"{module.relative_to(PACKAGE)}:{node.lineno}")
    assert asked == []


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=HANG)
    return set(done.stdout.split("\n")[-2].split())


def test_analyze_imports_neither_torch_nor_matplotlib() -> None:
    sample = Path(__file__).parent.parent / "sample_checkpoints"
    heavy = {"torch", "matplotlib", "numba", "pandas"}
    for name, allowed in (("s4d_trained.safetensors", set()), ("s4_dplr_trained.pt", {"scipy"})):  # Gramians of low-rank systems
        loaded = loaded_by(f"from ssmspec import analyze\nanalyze('{sample}/{name}')")
        assert "ssmspec.commands.analyze" in loaded
        assert not (heavy | {"scipy"} - allowed) & loaded


def test_help_loads_neither_numpy_nor_rich_tables() -> None:
    assert not {"numpy", "torch", "matplotlib", "rich.table"} & loaded_by("import ssmspec.cli")


def test_monitoring_loads_no_package_of_its_extras_and_draws_only_when_asked() -> None:
    loaded = loaded_by("from ssmspec import SpectralMonitor")
    assert "torch" in loaded
    assert not {"matplotlib", "tensorboard", "lightning", "pytorch_lightning", "transformers", "numba"} & loaded


def test_public_names_exist_and_are_documented() -> None:
    assert len(ssmspec.__all__) <= 24
    for name in ssmspec.__all__:
        value = getattr(ssmspec, name)
        if callable(value):
            assert inspect.getdoc(value), name


def test_every_public_function_and_class_has_a_docstring() -> None:
    bare = []
    for module in MODULES:
        for node in tree(module).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node):
                bases = [ast.unparse(base) for base in getattr(node, "bases", [])]
                if bases != ["StrEnum"]:
                    bare.append(f"{module.relative_to(PACKAGE)}: {node.name}")
    assert bare == []


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_families_carry_their_name_and_source(family) -> None:
    assert FAMILIES[family.name] is family
    assert "/" in family.source or "arXiv" in family.source


@pytest.mark.parametrize("statistic", STATISTICS.values(), ids=lambda statistic: statistic.name)
def test_statistics_carry_a_definition_and_a_source(statistic) -> None:
    assert statistic.source
    assert inspect.getdoc(statistic.function)
