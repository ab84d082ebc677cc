"""Run everything that needs an NVIDIA GPU, part by part, and write gpu.json after each of them. Start it with gpu.sh.

    tests/benchmarks/gpu.sh DIR [--quick] [--only PART ...] [--limit SECONDS]

Each part is a process of its own (gpu_parts.py) and has so many seconds. A part that fails, hangs or crashes does not keep the others from
running. Without a GPU, Triton's interpreter runs what it can, at small sizes, and the other parts are skipped. This file needs only
Python's standard library, so that something is written even where torch is missing. The exit code is 1 if a part failed.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Document = dict[str, Any]

HERE = Path(__file__).resolve().parent
LIMIT = 475.0  # seconds of the whole run; that of the last part is cut if the others, with their starts and ends, took more
PROBE = 60.0  # seconds to find out what is there
# Seconds of every part on a GPU. The first time, Triton compiles each kernel for each combination of sizes.
LIMITS = {
    "kernels": 100.0,
    "operator": 25.0,
    "layers": 35.0,
    "autocast": 25.0,
    "nccl": 25.0,
    "engine": 40.0,
    "s4d_step": 40.0,
    "train": 75.0,
    "compiled": 50.0,
}
INTERPRETER = {"kernels": 200.0, "operator": 65.0, "layers": 150.0}  # seconds of what Triton's interpreter can run
TAIL = 30  # lines of its output that are kept of a part that failed


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="gpu.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="receives gpu.json")
    parser.add_argument("--quick", action="store_true", help="few cases and small sizes: whether the script itself works")
    parser.add_argument("--only", nargs="+", choices=LIMITS, metavar="PART", help=f"some of {', '.join(LIMITS)}")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="of every part, and of the whole; for a slow machine")
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    return Run(chosen.folder / "gpu.json", quick=chosen.quick, limit=chosen.limit).all(chosen.only or list(LIMITS))


class Run:
    """One run and its document.

    Args:
        path: of the document. quick: whether sizes are small. limit: seconds of every part and of the whole, or None for their own.
    """

    def __init__(self, path: Path, *, quick: bool, limit: float | None) -> None:
        self.path, self.quick, self.limit = path, quick, limit
        self.start = time.monotonic()
        self.document: Document = {
            "schema": "ssmspec.gpu/1",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _output(["git", "-C", str(HERE), "rev-parse", "HEAD"]),
            "quick": quick,
            "finished": False,
            "mode": "unknown",
            "note": "the run ended before it was known what is there",
            "seconds": 0.0,
            "hardware": {},
            "parts": [],
        }

    def all(self, names: Sequence[str]) -> int:
        """Run the parts. Returns the exit code."""
        parts = {name: _skipped(name, "the run ended before this part") for name in names}
        self.document["parts"] = list(parts.values())
        self._write()
        probe = self._process("probe", PROBE, {})
        facts = probe["figures"]
        driver = _output(["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"])
        self.document["hardware"] = facts.get("hardware", {"python": sys.version.split()[0]}) | {"nvidia_smi": driver}
        mode = self.document["mode"] = facts.get("mode", "none")
        self.document["note"] = _note(mode, facts, probe, driver)
        limits = {"gpu": LIMITS, "interpreter": INTERPRETER}.get(mode, {})
        for name in names:
            if name in limits:
                parts[name] = self._process(name, limits[name], _environment(mode))
            else:
                parts[name] = _skipped(name, "it needs an NVIDIA GPU" if limits else "nothing can run here")
            self.document["parts"] = list(parts.values())
            self._write()
            _say(parts[name])
        self.document["finished"] = True
        self._write()
        failed = probe["status"] == "failed" or any(part["status"] == "failed" for part in parts.values())
        sys.stdout.write(f"{self.document['note']}\nwrote {self.path} after {self.document['seconds']:.0f} s\n")
        return int(failed)

    def _process(self, name: str, limit: float, environment: dict[str, str]) -> Document:
        """Run a part to its end or its limit, and return its entry of the document."""
        start = time.monotonic()
        limit = min(self.limit or limit, (self.limit or LIMIT) - (start - self.start))
        if limit <= 0:
            return _skipped(name, "no time was left for this part")
        with tempfile.TemporaryDirectory() as place:
            found, log = Path(place, "found"), Path(place, "log")
            command = [sys.executable, str(HERE / "gpu_parts.py"), name, str(found), *(["--quick"] if self.quick else [])]
            with log.open("wb") as output:
                ended = _code(command, os.environ | environment, output, limit)
            entry = {"name": name, "status": "ok", "seconds": round(time.monotonic() - start, 2), "limit_seconds": round(limit, 1)}
            entry |= _read(found)
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
            if ended is None:
                entry |= {"status": "failed", "error": f"it did not end within {limit:.0f} s; the figures are those up to then"}
            elif ended and entry["status"] == "ok":
                entry |= {"status": "failed", "error": f"its process ended with code {ended}: {lines[-1] if lines else 'it said nothing'}"}
            if entry["status"] == "failed":
                entry["log"] = lines
        return entry

    def _write(self) -> None:
        """Replace the document at once, so that a reader never finds half of it."""
        self.document["seconds"] = round(time.monotonic() - self.start, 2)
        temporary = self.path.with_name(f"{self.path.name}.new")
        temporary.write_text(json.dumps(_finite(self.document), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(self.path)


def _environment(mode: str) -> dict[str, str]:
    if mode == "interpreter":
        return {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {"TRITON_INTERPRET": "0", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}  # one process needs no network


def _code(command: list[str], environment: dict[str, str], output: Any, limit: float) -> int | None:
    """The exit code of a command, or None if it did not end in time. All that it started ends with it."""
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read(path: Path) -> Document:
    """What a part has written, a line of JSON at a time; the last line may be incomplete."""
    figures: Document = {}
    entry: Document = {"figures": figures}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            found = json.loads(line)
        except ValueError:
            break
        for key, value in found.pop("figures", {}).items():
            before = figures.get(key)
            figures[key] = before | value if isinstance(before, dict) and isinstance(value, dict) else value
        entry |= found
    return entry


def _skipped(name: str, reason: str) -> Document:
    return {"name": name, "status": "skipped", "seconds": 0.0, "limit_seconds": 0.0, "figures": {}, "reason": reason}


def _note(mode: str, facts: Document, probe: Document, driver: str | None) -> str:
    if mode == "gpu":
        return f"on {facts['hardware']['gpu']}"
    if mode == "none":
        return f"nothing could run: {facts.get('obstacle') or probe.get('error', 'unknown')}"
    seen = f"nvidia-smi shows {driver}, but torch {facts['hardware']['torch']} finds no CUDA device" if driver else "no NVIDIA GPU"
    return f"{seen}: Triton's interpreter runs {', '.join(INTERPRETER)} on the CPU, at small sizes; the other parts need a GPU"


def _output(command: list[str]) -> str | None:
    """What a command prints, or None if it cannot run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _finite(value: Any) -> Any:
    """JSON has no number for what is not finite: text stands for it."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _say(entry: Document) -> None:
    reason = entry.get("error") or entry.get("reason")
    sys.stdout.write(f"{entry['name']}: {entry['status']}, {entry['seconds']:.1f} s{f': {reason}' if reason else ''}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # as an outer limit sends it; the part ends, too
    sys.exit(main())
