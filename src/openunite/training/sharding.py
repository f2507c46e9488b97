"""Sharding of parameters, gradients, optimizer state and EMA by rows over processes (FSDP2).

Results stay the same: full weights are gathered block by block when a pass needs them, and the
backward pass averages and scatters the gradients. Files hold full tensors, so a run can resume
with any number of processes, sharded or not. Everything here except `shard_like` on plain tensors
is collective: every process has to call it.
"""

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor


def shard(model: nn.ModuleDict, average: nn.Module, device: torch.device) -> None:
    """Shard both in place: `model` gathers weights in its passes, `average` only stores shards."""
    # The image decoder returns a cropped view, and nothing writes into it.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for part in model.values():
        for name, module in part.named_modules():
            for block in module.children() if name.rpartition(".")[2] == "blocks" else ():
                fully_shard(block, mesh=mesh)
        fully_shard(part, mesh=mesh)
    own = dict(model.named_parameters())
    # The average starts as a copy of the model.
    _replace(average, lambda name, _: own[name].detach().clone())
    assert all(isinstance(p, DTensor) for m in (model, average) for p in m.parameters())


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """Copy a full tensor to the device of `like`, and shard it the same way."""
    value = value.clone().to(like.device)
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    if not value.numel():  # a table without rows has nothing to shard
        return torch.zeros_like(like.detach())
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def whole(tensor: Tensor) -> Tensor:
    """All-gather a sharded tensor; other tensors are returned unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_on_cpu(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Gather full tensors one by one; only processes with `keep` store them, on the CPU."""
    gathered: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if keep:
            gathered[name] = full.cpu() if isinstance(tensor, DTensor) else full
    return gathered


def load_whole(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load full tensors into a model; each process keeps its shards."""
    own = model.state_dict()
    model.load_state_dict({name: shard_like(t, own.get(name, t)) for name, t in tensors.items()})


def gathered(module: nn.Module) -> nn.Module:
    """A copy of the module with full parameters; the module itself if nothing is sharded."""
    if not any(isinstance(p, DTensor) for p in module.parameters()):
        return module
    module = copy.deepcopy(module)
    _replace(module, lambda _, parameter: whole(parameter))
    return module.requires_grad_(False)


def stack_whole(matrices: list[Tensor]) -> Tensor:
    """Stack n matrices to (n, rows, columns); if sharded, a process gets n / world_size of them.

    Those it receives are full matrices, exchanged by one all-to-all, so that each matrix is
    orthogonalized on one process only.
    """
    first = matrices[0]
    if not isinstance(first, DTensor):
        return torch.stack(matrices)
    rows = torch.stack([m.to_local() for m in matrices if isinstance(m, DTensor)])
    stacked = _assemble(rows, first.device_mesh, Shard(1), (len(matrices), *first.shape))
    return stacked.redistribute(placements=[Shard(0)]).to_local()


def unstack(stack: Tensor, like: list[Tensor]) -> list[Tensor]:
    """The inverse of `stack_whole`: a list of matrices, sharded in the same way as `like`."""
    first = like[0]
    if not isinstance(first, DTensor):
        return list(stack.unbind(0))
    mesh = first.device_mesh
    stacked = _assemble(stack, mesh, Shard(0), (len(like), *first.shape))
    rows = stacked.redistribute(placements=[Shard(1)]).to_local()
    return [_assemble(part, mesh, Shard(0), first.shape) for part in rows.unbind(0)]


def clip_gradients(parameters: Iterable[Tensor], most: float) -> Tensor:
    """Scale the gradients so that their joint norm is at most `most`; return the norm before.

    This equals `nn.utils.clip_grad_norm_`, which handles sharded gradients one by one.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    shares = [grad.to_local() if isinstance(grad, DTensor) else grad for grad in grads]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(shares)))
    if any(isinstance(grad, DTensor) for grad in grads):
        squares = norm.square()
        torch.distributed.all_reduce(squares)
        norm = squares.sqrt()
    torch._foreach_mul_(shares, (most / (norm + 1e-6)).clamp(max=1.0))
    return norm


class GradientAverage:
    """Average full gradients over processes.

    The gradients of a part of the model can be sent while others are still being computed. Each
    such part is one message, and the rest is another: fewer messages cost less latency.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._waiting = dict.fromkeys(parameters)  # an ordered set, equal on all processes
        self._sent: list[tuple[list[Tensor], Tensor, torch.distributed.Work]] = []

    def send(self, parameters: Iterable[Tensor]) -> None:
        """Start averaging these gradients; they must not be changed until `finish`."""
        grads = []
        for parameter in parameters:
            if parameter in self._waiting and parameter.grad is not None:
                del self._waiting[parameter]
                grads.append(parameter.grad)
        if grads:
            flat = torch.cat([grad.flatten() for grad in grads])
            work = torch.distributed.all_reduce(flat, async_op=True)
            assert work is not None
            self._sent.append((grads, flat, work))

    def finish(self) -> None:
        """Send the remaining gradients, wait for all messages, and store the means as gradients."""
        self.send(list(self._waiting))
        for grads, flat, work in self._sent:
            work.wait()
            flat /= torch.distributed.get_world_size()
            pieces = flat.split([grad.numel() for grad in grads])
            torch._foreach_copy_(grads, [s.view_as(g) for s, g in zip(pieces, grads, strict=True)])


def _assemble(local: Tensor, mesh: DeviceMesh, cut: Shard, shape: Sequence[int]) -> DTensor:
    """A sharded tensor of the given full shape from the `local` shard of every process."""
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(
        local, mesh, [cut], run_check=False, shape=torch.Size(shape), stride=stride
    )


def _replace(module: nn.Module, value: Callable[[str, nn.Parameter], Tensor]) -> None:
    """Replace every parameter by `value(name, parameter)`."""
    for name, parameter in list(module.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        new = nn.Parameter(value(name, parameter), parameter.requires_grad)
        setattr(module.get_submodule(owner), leaf, new)
