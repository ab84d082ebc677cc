"""Two processes of one group: forks of one that has loaded torch, which takes longer than what they do.

python ranks.py SCRIPT FOLDER: both call `main(rank, folder)` of the script; the code is 0 if both end well.
"""

import gc
import os
import sys
from datetime import timedelta
from pathlib import Path
from runpy import run_path

import preloaded
from locations import HANG


def run_ranks(script: Path, folder: Path) -> None:
    """Runs the script in two processes that meet in the folder.

    Raises:
        AssertionError: with what the processes said.
    """
    done = preloaded.run(__file__, script, folder)
    assert done.returncode == 0, done.stderr


def main(script: Path, folder: Path) -> int:
    """Number of processes that failed."""
    call = run_path(str(script))["main"]
    children = []
    for rank in range(2):
        child = os.fork()
        if not child:
            code = 1
            try:
                _take_part(call, rank, folder)
                code = 0
            except Exception:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    return sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children)


def _take_part(call: object, rank: int, folder: Path) -> None:
    import torch
    from torch import distributed

    gc.disable()  # it would copy all that has been loaded
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=2, timeout=timedelta(seconds=HANG))
    call(rank, folder)
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
