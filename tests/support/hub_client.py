"""Runs commands in a process whose HF_ENDPOINT is set, as huggingface_hub reads it when it is imported; prints their results as JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from locations import HANG
from program import Result


def with_hub(url: str, commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> list[Result]:
    """The results of commands, one after the other in one process."""
    settings = {"HF_ENDPOINT": url, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(commands)],
        capture_output=True,
        check=True,
        env={**os.environ, **settings, **environment},
        timeout=HANG,
    )
    return [Result(*each) for each in json.loads(done.stdout)]


if __name__ == "__main__":
    from program import ssmspec

    results = [ssmspec(*command) for command in json.loads(sys.argv[1])]
    sys.stdout.write(json.dumps([(each.code, each.out, each.err) for each in results]))
