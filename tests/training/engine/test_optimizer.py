"""The optimizer of a run: it does what AdamW does, bit for bit, and a process that trains does not load torch's compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from locations import HANG

from ssmspec.training.engine.optimizer import EagerAdamW


def groups() -> list[dict[str, object]]:
    torch.manual_seed(0)
    wide, complex_valued = torch.randn(3, 2, requires_grad=True), torch.randn(4, dtype=torch.complex64, requires_grad=True)
    return [{"params": [wide], "lr": 0.1, "weight_decay": 0.3}, {"params": [complex_valued], "lr": 0.01}]


def after_steps(optimizer: torch.optim.Optimizer, count: int) -> list[torch.Tensor]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for _ in range(count):
        optimizer.zero_grad()
        sum(parameter.abs().square().sum() ** 2 for parameter in parameters).backward()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("fused", [True, False])
def test_steps_are_those_of_adamw_bit_for_bit(fused: bool) -> None:
    if fused:
        own, peer = groups()[:1], groups()[:1]  # torch fuses real parameters only
    else:
        own, peer = groups(), groups()
    found = after_steps(EagerAdamW(own, fused=fused), 5)
    assert all(map(torch.equal, found, after_steps(torch.optim.AdamW(peer, fused=fused), 5)))
    assert not torch.equal(found[0], groups()[0]["params"][0])


def test_a_saved_state_is_continued_and_is_that_of_adamw() -> None:
    whole, first, second = EagerAdamW(groups()[:1]), EagerAdamW(groups()[:1]), torch.optim.AdamW(groups()[:1])
    wanted = after_steps(whole, 5)
    after_steps(first, 3)
    with torch.no_grad():
        second.param_groups[0]["params"][0].copy_(first.param_groups[0]["params"][0])
    second.load_state_dict(first.state_dict())
    assert torch.equal(after_steps(second, 2)[0], wanted[0])
    third = EagerAdamW([{"params": second.param_groups[0]["params"]}])
    third.load_state_dict(second.state_dict())
    assert third.state_dict()["state"][0]["step"] == 5


def test_a_hook_on_the_steps_is_called_and_the_steps_leave_no_graph() -> None:
    optimizer, seen = EagerAdamW(groups()[:1]), []
    optimizer.register_step_post_hook(lambda *given: seen.append(torch.is_grad_enabled()))
    after_steps(optimizer, 2)
    assert len(seen) == 2
    assert optimizer.param_groups[0]["params"][0].is_leaf
    assert not optimizer.state[optimizer.param_groups[0]["params"][0]]["exp_avg"].requires_grad


ALL = """
import sys
from ssmspec.cli import main
for verb in (["train", "waves", "--steps", "3", "--no-pictures", "-o", "run"],
             ["train", "waves", "--steps", "3", "--no-pictures", "-o", "run", "--resume"],
             ["probe", "run", "--inputs", "1", "--samples", "1"]):
    sys.argv = ["ssmspec", *verb, "-q"]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, stop.code
assert "torch.optim.adamw" in sys.modules
print(*(name for name in ("torch._dynamo", "torch._inductor", "sympy", "matplotlib") if name in sys.modules))
"""


@pytest.mark.slow
def test_a_process_that_trains_and_probes_loads_no_compiler(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ALL], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=HANG)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, [""]), done.stderr
