"""Freed memory: the next array takes it, unless the user chose otherwise."""

import os
import platform
import resource
import subprocess
import sys

import pytest
from locations import HANG

from ssmspec.cli.freed_memory import CHOSEN

FAULTS = """
import resource
import numpy as np
from ssmspec.cli.freed_memory import keep_freed

keep_freed()
counts = []
for _ in range(12):
    arrays = [np.ones(1 << 17) for _ in range(6)]
    del arrays
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(counts[-1] - counts[1])
"""
PAGES = 6 * (1 << 20) // resource.getpagesize()  # of the arrays of one round


def faults(**chosen: str) -> int:
    """Fresh pages in ten rounds of six arrays of a megabyte."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOSEN} | chosen
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env=environment, timeout=HANG)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back that soon")
def test_ten_rounds_take_no_fresh_pages_unless_the_user_chose_so() -> None:
    kept = faults()
    assert kept < PAGES / 4
    assert faults(MALLOC_TRIM_THRESHOLD_="131072") >= kept + 10  # large pages may make it a few per round
