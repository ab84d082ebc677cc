"""The optimizer of a run: AdamW of torch, without the import of torch's compiler.

torch wraps the methods of its optimizers so that torch.compile does not trace them. The wrappers import torch._dynamo at their first call,
and with it sympy, triton and 1400 more modules: three CPU seconds in every process that trains, although nothing is compiled.
The wrapped methods do the work, and functools.wraps keeps them in `__wrapped__`. If a version of torch wraps them in another way, they are
taken as they are. torch.optim itself is unchanged, so a program that compiles its own training sees no difference.

Source: pytorch/pytorch, torch/_compile.py, `_disable_dynamo`, and torch/optim/optimizer.py, `_use_grad_for_differentiable`.
"""

from inspect import unwrap
from typing import Any

import torch


class EagerAdamW(torch.optim.AdamW):
    """AdamW that is never traced by torch.compile."""

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    step: Any = torch.no_grad()(unwrap(torch.optim.AdamW.step))
