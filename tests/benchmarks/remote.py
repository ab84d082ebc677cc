"""What `ssmspec analyze` reads of a Mamba-2 of 2.7 billion parameters over HTTP, in bytes and requests, against downloading it.

    python tests/benchmarks/remote.py [--json FILE]      # half a minute; prints the table of RESULTS.md

The files are sparse, so they take little disk, and a server on the loopback counts what it sends. Bytes and requests are exact and do not
depend on the machine.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from big_models import LAYERS, all_shapes, layer_shapes, sparse_safetensors, sparse_torch_zip, vectors
from range_server import serving

from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.statistics import HEADLINES

Values = dict[str, np.ndarray[Any, Any]]


def one_safetensors(folder: Path, values: Values) -> str:
    """One file."""
    sparse_safetensors(folder / "model.safetensors", all_shapes(), values)
    return "model.safetensors"


def one_torch_zip(folder: Path, values: Values) -> str:
    """One file as torch.save writes it."""
    sparse_torch_zip(folder / "pytorch_model.bin", all_shapes(), values)
    return "pytorch_model.bin"


def shards(folder: Path, values: Values) -> str:
    """A shard for every layer, and one for everything else."""
    of_layers = [layer_shapes(layer) for layer in range(LAYERS)]
    inside = {name for shapes in of_layers for name in shapes}
    weight_map: dict[str, str] = {}
    for number, shapes in enumerate([*of_layers, {name: shape for name, shape in all_shapes().items() if name not in inside}]):
        file = f"model-{number:05}.safetensors"
        sparse_safetensors(folder / file, shapes, {name: values[name] for name in shapes if name in values})
        weight_map |= dict.fromkeys(shapes, file)
    index = {"metadata": {"total_size": sum(2 * int(np.prod(shape)) for shape in all_shapes().values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return "model.safetensors.index.json"


CASES: dict[str, Callable[[Path, Values], str]] = {"safetensors": one_safetensors, "torch zip": one_torch_zip, "65 shards": shards}


def measure(write: Callable[[Path, Values], str]) -> dict[str, int]:
    """Bytes of the files, bytes and requests of an analysis, the most requests at once, and requests of a download (one a file)."""
    values = vectors(all_shapes(), np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        name = write(folder, values)
        with serving(folder) as rules:
            found = analyze(f"{rules.url}/{name}", AnalysisOptions(statistics=HEADLINES))
            assert found.transfer is not None
            assert len(found.layers) == LAYERS
            assert len(rules.asked) == found.transfer.requests
            files = [file.stat().st_size for file in folder.iterdir()]
            return {
                "size": sum(files),
                "read": found.transfer.bytes,
                "requests": found.transfer.requests,
                "at_once": rules.most,
                "files": len(files),
            }


def row(case: str, found: dict[str, int]) -> str:
    """A line of the table."""
    share = found["size"] / found["read"]
    cells = (
        case,
        f"{found['size'] / 1e9:.2f} GB in {found['files']} request{'s' * (found['files'] > 1)}",
        f"{found['read'] / 1e6:.3f} MB",
        str(found["requests"]),
        f"{share:,.0f}",
        str(found["at_once"]),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    found = {case: measure(write) for case, write in CASES.items()}
    heading = "| file | download | analysis reads | requests | ratio of bytes | at once |\n| --- | --- | --- | --- | --- | --- |\n"
    sys.stdout.write(heading + "".join(f"{row(case, figures)}\n" for case, figures in found.items()))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
