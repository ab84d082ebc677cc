"""Help: short and long options, panels, examples, whole sentences, the width of the terminal; --quiet and completion."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from locations import HANG, SAMPLES
from program import S4D, Type, process

from ssmspec.cli import COMMANDS
from ssmspec.cli.train import OTHERS, OWN_DATA
from ssmspec.training.tasks import TASKS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_short_help_an_example_and_whole_sentences(typed: Type, command: str) -> None:
    shown = typed(command, "-h")
    assert shown.out == typed(command, "--help").out
    assert f"Examples:\n  ssmspec {command} " in shown.out
    assert "-q, --quiet" in shown.out
    summary = shown.out.split("\n\n")[1]
    assert " ".join(summary.split()).endswith(".")


def test_summaries_of_commands_are_whole_sentences(typed: Type) -> None:
    lines = typed("-h").out.split("Commands:\n")[1]
    entries = "".join(f"\n{line[2:]}" if line[2:3] != " " else f" {line.strip()}" for line in lines.splitlines() if line)
    assert [entry.split()[0] for entry in entries.split("\n")[1:]]
    assert all(entry.endswith(".") and "..." not in entry for entry in entries.split("\n")[1:])


def test_options_are_in_panels_the_common_ones_first(typed: Type) -> None:
    panels = [line for line in typed("analyze", "-h").out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert panels == ["Arguments:", "Options:", "Many checkpoints:", "Engine:", "How to read the file:", "Examples:"]
    retune = typed("retune", "-h").out
    assert retune.index("Sobolev weight (beta):") < retune.index("--beta <") < retune.index("How to read the file:") < retune.index("--map")


def test_help_is_as_wide_as_the_terminal(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    widest = {}
    for columns in (80, 160):
        monkeypatch.setenv("COLUMNS", str(columns))
        widest[columns] = max(map(len, typed("analyze", "-h").out.splitlines()))
    assert widest[80] <= 80 < widest[160] <= 160


def test_help_names_all_tasks_and_an_unknown_one_is_refused_without_torch(typed: Type) -> None:
    assert {*OTHERS, *OWN_DATA} == set(TASKS)
    shown = " ".join(typed("train", "-h").out.split())
    assert all(task in shown for task in TASKS)
    code = (
        "import sys; from ssmspec.cli import main; sys.argv = ['ssmspec', 'train', 'nonsense']\n"
        "try: main()\nexcept SystemExit as stop: print(stop.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANG)
    assert done.stdout == "2 False\n"
    assert done.stderr.startswith("ssmspec: task 'nonsense' is unknown; choose one of waves, denoise, ")


def test_a_start_that_fails_leaves_no_folder(typed: Type, tmp_path: Path) -> None:
    done = typed("train", "classify", "--out", tmp_path / "run")
    assert (done.code, list(tmp_path.iterdir())) == (2, [])
    done = typed("train", "regress", "--data", tmp_path / "none.npy", "--out", tmp_path / "run")
    assert (done.code, list(tmp_path.iterdir())) == (2, [])


def test_quiet_keeps_results_and_errors(typed: Type, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    loud, quiet = typed("analyze", S4D, "--csv", table), typed("analyze", S4D, "--csv", table, "--quiet")
    assert loud.err == f"ssmspec: wrote {table}\n"
    assert (quiet.out, quiet.err) == (loud.out, "")
    assert typed("-q", "analyze", S4D, "--csv", table).err == ""
    assert typed("analyze", "-q", tmp_path / "none").err.endswith("check the path\n")


def test_short_version(typed: Type) -> None:
    assert typed("-V").out == typed("--version").out


def test_completion_of_a_shell_knows_the_commands() -> None:
    given = {"_SSMSPEC_COMPLETE": "complete_bash", "COMP_WORDS": "ssmspec re", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "ssmspec re"}
    program = Path(sys.executable).with_name("ssmspec")
    if not program.exists():
        pytest.skip("the package is not installed beside this Python")
    done = subprocess.run([program], capture_output=True, text=True, check=False, env=os.environ | given, timeout=HANG)
    assert {"response", "retune"} <= set(done.stdout.split())


def test_the_legend_comes_once_for_many_files(typed: Type) -> None:
    one, two = typed("analyze", S4D).out, typed("analyze", S4D, SAMPLES / "s4d_initial.safetensors").out
    assert one.count("values are medians") == two.count("values are medians") == 1
    assert two.rstrip().splitlines()[-1].startswith("center_frequency: ")


def test_a_comparison_on_a_narrow_terminal_splits_no_number() -> None:
    shown = process("compare", SAMPLES / "s4d_initial.safetensors", S4D, COLUMNS="80", FORCE_COLOR="1").out
    assert "-1.1 -> -1.05 (+0.048)" in shown
