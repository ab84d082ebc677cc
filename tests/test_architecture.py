"""The shape of the package: who imports whom, what is loaded when, what is documented."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import ssmspec
from ssmspec.families import FAMILIES
from ssmspec.statistics import STATISTICS

PACKAGE = Path(ssmspec.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# unit -> units that it may import besides itself; all may import `errors`, and `writing` and `reading`, which import nothing else
MAY_IMPORT = {
    "errors": set(),
    "writing": set(),
    "reading": set(),
    "checkpoint": set(),
    "backends": set(),
    "grid": set(),
    "sobolev": set(),
    "statespace": {"sobolev"},
    "families": {"sobolev", "statespace"},
    "response": {"backends", "grid", "statespace"},
    "statistics": {"backends", "response", "grid", "statespace"},
    "tuning": {"backends", "grid", "response", "sobolev", "statespace", "statistics"},
    "report": {"backends", "benchmarks", "checking", "grid", "response", "retune", "ssmspec", "statespace", "statistics", "tuning"},
    "provenance": {"checkpoint", "sobolev"},
    "layers": {"checkpoint", "families", "provenance", "statespace", "statistics"},
    "modules": {"checkpoint", "families", "layers", "nn", "provenance", "sobolev", "statespace"},
    "retune": {
        *("checkpoint", "comparison", "families", "layers", "provenance", "sobolev", "ssmspec", "statespace", "tuning"),
    },
    # `retune --retrain`: what retune made of a checkpoint is trained, and goes back into it
    "retraining": {*("checkpoint", "families", "layers", "modules", "provenance", "retune", "sobolev", "statespace", "training")},
    "analysis": {"backends", "checkpoint", "families", "grid", "layers", "response", "statespace", "statistics"},
    "inspection": {"checkpoint", "families"},
    "cli": {
        *(
            "analysis",
            "backends",
            "benchmarks",
            "check",
            "checking",
            "comparison",
            "families",
            "inspection",
            "layers",
            "plotting",
            "report",
            "response",
        ),
        *("retraining", "retune", "ssmspec", "statistics", "training", "tuning"),
    },
    "benchmarks": {"analysis", "backends", "checkpoint", "families", "grid", "layers", "nn", "response", "ssmspec", "statespace"},
    "plotting": {"comparison", "layers", "analysis", "backends", "checkpoint", "families", "grid", "report", "statespace", "statistics"},
    "checking": {"families", "grid", "statespace", "statistics"},
    "check": {"layers", "analysis", "backends", "checking", "checkpoint", "families", "grid", "statespace", "statistics"},
    "comparison": {"layers", "analysis", "backends", "checkpoint", "grid", "statespace", "statistics"},
    "nn": {"backends", "sobolev", "statespace", "tuning"},
    "training": {
        *("analysis", "checkpoint", "comparison", "nn", "provenance", "report", "sobolev", "ssmspec", "statespace", "tuning"),
    },
    "monitoring": {
        *(
            "analysis",
            "backends",
            "checkpoint",
            "families",
            "grid",
            "layers",
            "nn",
            "provenance",
            "report",
            "sobolev",
            "statespace",
            "statistics",
        ),
    },
    "__main__": {"cli"},
    "__init__": {"layers", "analysis", "backends", "families", "grid", "monitoring", "response", "statespace", "statistics"},
}


def unit(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(module: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [node.module or ""]
        found |= {[*name.split("."), "ssmspec"][1] for name in names if name.split(".")[0] == "ssmspec"}
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_modules_import_only_what_their_place_allows(module: Path) -> None:
    name = unit(module)
    assert imports(module) - {name, "errors", "writing", "reading"} <= MAY_IMPORT[name]


def test_no_module_outgrows_one_reading() -> None:
    sizes = {str(module.relative_to(PACKAGE)): len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES}
    assert {name: size for name, size in sizes.items() if size > 400} == {}


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
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
    assert len(ssmspec.__all__) <= 15
    for name in ssmspec.__all__:
        value = getattr(ssmspec, name)
        if callable(value):
            assert inspect.getdoc(value), name


def test_every_public_function_and_class_has_a_docstring() -> None:
    bare = []
    for module in MODULES:
        tree = ast.parse(module.read_text(encoding="utf-8"))
        for node in tree.body:
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
