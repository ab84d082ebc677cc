"""Every block of the README and of the documentation runs as it stands there, and prints what the page says.

A block that trains runs for five steps here, and as it stands in the nightly tests. A block that needs a GPU, the network or hours says so
in a comment before it: its commands are parsed here, and one that needs hours runs for five steps in the nightly tests. Blocks of the
language `text` are output, compared with the command before them, or lines that are not for a test (to install, or what a file holds).
"""

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import PAGES, Block, blocks, fill
from program import Result, Type

from ssmspec.cli import COMMANDS, whole_app

EVERY = [block for path in PAGES for block in blocks(path)]
SHELL = [block for block in EVERY if block.language == "sh"]
SETUP = SHELL[0]  # what .ci/run executes
RUN = [block for block in SHELL if block is not SETUP and not block.needs]
TRAINING = [block for block in SHELL if block.needs == "hours"]
LANGUAGES = {"sh", "text", "python", "toml", "yaml", "", "{code-cell}", "{toctree}", "{eval-rst}"}


def test_every_block_has_a_language_that_a_test_knows() -> None:
    assert {block.language for block in EVERY} <= LANGUAGES
    assert {block.needs for block in EVERY} <= {"", "gpu", "network", "hours"}
    assert len(RUN) > 20


def test_the_first_block_of_the_readme_is_what_the_build_runs() -> None:
    build = (Path(__file__).parents[2] / ".ci" / "run").read_text(encoding="utf-8")
    assert "sed -n '/^```sh$/,/^```$/p' README.md | sed -n '2,3p'" in build
    assert SETUP.page == "README.md"
    assert [line.split(" ")[0] for line in SETUP.text.splitlines()] == ["python3", ".venv/bin/pip"]


def following(block: Block) -> str:
    """The output that the page shows after a block, or nothing."""
    after = next((each for each in EVERY if (each.page, each.number) == (block.page, block.number + 1)), None)
    return after.text if after is not None and after.language == "text" else ""


def trains(words: list[str]) -> bool:
    return words[:2] == ["ssmspec", "train"] or "--retrain" in words


def run(typed: Type, words: list[str], *, shortened: bool = True) -> Result:
    """A line of a shell block, in the test's folder; training takes five steps and no pictures, unless it runs as it stands."""
    assert words[0] == "ssmspec", words
    target = None
    if ">" in words:
        words, target = words[: words.index(">")], Path(words[-1])
    globbed = [str(path) for word in words[1:] for path in (sorted(Path().glob(word)) if "*" in word and "/" in word else [word])]
    if shortened and trains(words) and (globbed[0] != "train" or "--steps" not in globbed):
        globbed += ["--steps", "5"]
    if shortened and globbed[0] == "train" and "--no-pictures" not in globbed:
        globbed.append("--no-pictures")
    done = typed(*globbed)
    if target is not None:
        target.write_text(done.out, encoding="utf-8")
    return done


def written(words: list[str]) -> set[str]:
    """What a command writes, which later blocks of its page may read."""
    return {after for word, after in pairwise(words) if word in ("-o", "--out", ">")}


@pytest.mark.parametrize("block", RUN, ids=str)
@pytest.mark.usefixtures("blank_pictures")
def test_a_shell_block_runs_and_prints_what_the_page_says(block: Block, typed: Type, tmp_path: Path) -> None:
    check_block(block, typed, tmp_path, shortened=True)


@pytest.mark.nightly
@pytest.mark.parametrize("block", [block for block in RUN if any(map(trains, block.commands))], ids=str)
def test_a_block_that_trains_runs_as_it_stands(block: Block, typed: Type, tmp_path: Path) -> None:
    check_block(block, typed, tmp_path, shortened=False)


def check_block(block: Block, typed: Type, tmp_path: Path, *, shortened: bool) -> None:
    """Run the earlier commands of the page that write what this block reads, and the block; compare what it prints."""
    fill(tmp_path)
    named = {word for words in block.commands for word in words} - {name for words in block.commands for name in written(words)}
    for earlier in RUN:
        if earlier.page == block.page and earlier.number < block.number:
            for words in earlier.commands:
                if written(words) & named:
                    run(typed, words)
    for path, text in mappings(block.page):
        (tmp_path / path).write_text(text, encoding="utf-8")
    printed = ""
    for words in block.commands:
        done = run(typed, words, shortened=shortened)
        assert done.code == 0, (words, done.err)
        printed += done.out
    if expected := following(block):
        rest = " ".join(printed.split())
        for part in " ".join(expected.split()).split("..." if "; ..." in expected else "\0"):
            assert part.strip() in rest, (part, rest)
            rest = rest[rest.index(part.strip()) :]


def mappings(page: str) -> list[tuple[str, str]]:
    """The mapping file of a page, by the name that its commands use."""
    found = [block.text for block in EVERY if block.page == page and block.language == "toml" and "[[layer]]" in block.text]
    return [("mapping.toml", found[0])] if found else []


@pytest.mark.nightly
@pytest.mark.parametrize("block", TRAINING, ids=str)
@pytest.mark.usefixtures("blank_pictures")
def test_a_block_that_needs_hours_runs_for_five_steps(block: Block, typed: Type, tmp_path: Path) -> None:
    fill(tmp_path)
    if "run/final.safetensors" in block.text:
        run(typed, ["ssmspec", "train", "regress", "--data", "X.npy", "--target", "Y.npy", "--out", "run"])
        run(typed, ["ssmspec", "train", "waves", "--out", "waves-run"])
    for words in block.commands:
        done = run(typed, words)
        assert done.code == 0, (words, done.err)


@pytest.mark.parametrize("block", [block for block in SHELL if block.needs], ids=str)
def test_the_commands_of_a_block_that_does_not_run_here_are_commands(block: Block) -> None:
    import typer

    group: Any = typer.main.get_command(whole_app())
    for words in block.commands:
        if "ssmspec" not in words:
            assert block.needs == "network"
            continue
        words = words[words.index("ssmspec") + 1 :]
        assert words[0] in COMMANDS
        group.commands[words[0]].make_context(words[0], words[1:])  # parses; the command itself does not run


@pytest.mark.parametrize("block", [block for block in EVERY if block.language == "toml"], ids=str)
def test_a_toml_block_is_a_mapping_or_a_rules_file(block: Block, tmp_path: Path) -> None:
    from ssmspec.checking.rules_file import load_rules
    from ssmspec.families.mapping.mapping_file import load_mapping

    (tmp_path / "file.toml").write_text(block.text, encoding="utf-8")
    if "layer" in tomllib.loads(block.text):
        assert load_mapping(tmp_path / "file.toml")
    else:
        assert load_rules(tmp_path / "file.toml").source


@pytest.mark.parametrize("block", [block for block in EVERY if block.language == "yaml"], ids=str)
def test_a_yaml_block_calls_what_the_repository_has(block: Block) -> None:
    yaml = pytest.importorskip("yaml")
    root = Path(__file__).parents[2]
    document = yaml.safe_load(block.text)
    if "repos" in document:
        ids = {hook["id"] for hook in yaml.safe_load((root / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))}
        assert {hook["id"] for repository in document["repos"] for hook in repository["hooks"]} <= ids
        return
    inputs = yaml.safe_load((root / "action.yml").read_text(encoding="utf-8"))["inputs"]
    (job,) = document["jobs"].values()
    for step in job["steps"]:
        if str(step.get("uses", "")).startswith("./"):
            assert set(step["with"]) <= set(inputs)
        if "ssmspec check" in step.get("run", ""):
            assert re.search(r"--rules ssmspec-rules.toml", step["run"])


# --- Python ---

PYTHON = [block for block in EVERY if block.language == "python" and block.page != "docs/contributing.md"]


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_python_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "TensorBoard" in block.text:
        pytest.skip("tests/monitoring/test_page_example.py runs it")
    torch = pytest.importorskip("torch")
    from nets import net

    monkeypatch.chdir(tmp_path)
    fill(tmp_path)
    model = net(dropout=0.0)
    scope = {
        "torch": torch,
        "model": model,
        "u": torch.randn(2, 128, 64),
        "batches": [(batch, batch) for batch in torch.randn(3, 2, 32, 1)],
        "train_step": lambda x, y: model(x),
    }
    exec(block.text.replace("every=100", "every=1"), scope)
    if "y" in scope and "layer" in scope:
        assert scope["y"].shape == (2, 128, 64)
    if "table" in scope:
        assert len(scope["table"]) == 4
    if "monitor" in scope:
        assert (tmp_path / "bias.jsonl").exists()


def test_the_family_of_the_contributing_page_passes_the_tests_of_families() -> None:
    from factories import stored
    from family_layers import assert_kernels

    from ssmspec.families import FAMILIES, ReadOptions, detect

    scope: dict[str, Any] = {}
    for block in EVERY:
        if block.page == "docs/contributing.md" and block.language == "python":
            exec(block.text, scope)
    example, family = scope["oscillator"](np.random.default_rng(0)), scope["OSCILLATOR"]
    (layer,) = detect(stored(example.under("blocks.0")), [*FAMILIES.values(), family]).layers
    assert (layer.name, layer.family) == ("blocks.0", "oscillator")
    systems = family.read(layer, ReadOptions())
    assert_kernels(systems, example.truths)
    for role, values in family.write(layer, systems, ReadOptions()).items():
        np.testing.assert_allclose(values, layer.tensors[role].read(), rtol=1e-6, err_msg=role)
