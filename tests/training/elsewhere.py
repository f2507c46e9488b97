"""Run apart from pytest: steps and samples on a device that is not the host.

The device has no arithmetic: a backend without kernels is named, and tensors on it are fake, with
shapes, types and a place but no contents. An operation that mixes places raises, as on a GPU; so
does one whose shape hangs on a value. Prints a line of JSON: how often a step of each kind of
training asked for a number.
"""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tests.training import test_molecules
from tests.training.tiny import tiny_color
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from openunite.batch import NOTHING, Evidence
from openunite.evaluation.images import perceptual
from openunite.flow import solvers
from openunite.flow.random import seeded_normal
from openunite.pipelines import base
from openunite.training.collapse import CollapseGuard
from openunite.training.log import MetricsLog, ProgressBar
from openunite.training.trainer import Trainer

AWAY = "elsewhere"
GUARD = CollapseGuard.of_run(40, 5)


def send(module: nn.Module, *_: Any, **__: Any) -> nn.Module:
    """In place of `Module.to`, which cannot swap tensors that are not fake for such that are."""
    for part in module.modules():
        for own in (part._parameters, part._buffers):
            for name, value in own.items():
                if value is not None:
                    sent = torch.empty(value.shape, dtype=value.dtype, device=AWAY)
                    learned = isinstance(value, nn.Parameter)
                    own[name] = nn.Parameter(sent, value.requires_grad) if learned else sent
    return module


def images(folder: Path, **changes: Any) -> Trainer:
    objective, data, config = tiny_color(**changes)
    return Trainer(objective, data, config, folder)


def molecules(folder: Path, **changes: Any) -> Trainer:
    return test_molecules.trainer(folder, **changes)


def crystals(folder: Path, **changes: Any) -> Trainer:
    return test_molecules.trainer(folder, test_molecules.crystals(60), **changes)


def drawn_here_or_there(seeds: Tensor, *shape: int, draw: int = 0) -> Tensor:
    """NumPy draws on the host, where samples start, and cannot read what has no contents."""
    assert draw == 0 or seeds.device.type == AWAY, "noise of a step comes from the host"
    if seeds.device.type == AWAY:
        return seeded_normal(seeds, *shape, draw=draw)
    return torch.empty(len(seeds), *shape)


def on_the_host(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def with_contents(*given: Any) -> Tensor:
        with unset_fake_temporarily():
            return function(*given)

    return with_contents


@contextlib.contextmanager
def away() -> Iterator[list[str]]:
    """Inside, Accelerate chooses the device; the list grows when the host asks for a number."""
    asked: list[str] = []
    answer: dict[str, Any] = {"__int__": 1, "__float__": 0.5, "__bool__": True, "item": 0.5}
    answer |= {"tolist": [], "cpu": torch.zeros(()), "numpy": np.zeros(1)}

    def asking(name: str) -> Any:
        own = getattr(Tensor, name)

        def ask(tensor: Tensor) -> Any:
            if tensor.device.type != AWAY:
                return own(tensor)
            asked.append(name)
            return answer[name]

        return ask

    move = Tensor.to

    def to(tensor: Tensor, *given: Any, **how: Any) -> Tensor:
        """A constant would be moved in truth: leave its contents behind first."""
        if tensor.device.type == "cpu":
            tensor = torch.empty(tensor.shape, dtype=tensor.dtype)
        moved = move(tensor, *given, **how)
        if tensor.device.type == AWAY and moved.device.type != AWAY:
            asked.append("to")
        return moved

    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(Tensor, "to", to))
        stack.enter_context(patch.object(nn.Module, "to", send))
        place = torch.device(AWAY, 0)
        for state in (Accelerator, AcceleratorState):
            stack.enter_context(patch.object(state, "device", place, create=True))
        stack.enter_context(patch.object(base, "seeded_normal", drawn_here_or_there))
        stack.enter_context(patch.object(solvers, "time_grid", on_the_host(solvers.time_grid)))
        # Its bounds are read where there is no assertion on the device, which CUDA has.
        stack.enter_context(patch.object(perceptual, "_check", lambda *given: None))
        for name in answer:
            stack.enter_context(patch.object(Tensor, name, asking(name)))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield asked


def assert_that_places_matter() -> None:
    """What this file is for: without it, nothing would be seen."""
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(2, device=AWAY) + torch.ones(2)


def train(here: Trainer) -> int:
    """Some steps of the same run elsewhere, in the loop; how often the host asked in one."""
    batches = [here.dataset.batch([*range(start, start + 16)]) for start in (0, 16, 32)]
    with away() as asked:
        assert_that_places_matter()
        there = Trainer(here.objective, here.dataset, here.config, here.folder)
        counts: list[int] = []
        step = there.train_step

        def counting(*given: Any, **how: Any) -> Any:
            counts.append(len(asked))
            return step(*given, **how)

        there.train_step, there.batches = counting, lambda: batches  # type: ignore
        with pytest.raises(StopIteration):  # the loop itself, until there is no more data
            there.run(MetricsLog(None, 0, []), ProgressBar(0, 9, shown=False), GUARD)
        places = {p.device.type for m in (there.model, there.ema.model) for p in m.parameters()}
        assert places == {AWAY}, places
        sample(there)
    return counts[2] - counts[1]


def sample(trainer: Trainer) -> None:
    """Every solver, guided, and the decoder."""
    pipe = base.UnitePipeline(trainer.objective.encoder, trainer.objective.decoder)
    labels = torch.zeros(3, dtype=torch.int64, device=AWAY)
    evidence = Evidence.of_classes(labels) if trainer.config.num_classes else NOTHING
    seeds = torch.tensor([5, 6, 7])
    atoms = trainer.config.modality != "image"
    mask = torch.ones(3, 7, dtype=torch.bool, device=AWAY) if atoms else None
    for solver in ("euler", "heun", "multistep", "sde"):
        options: Any = {"solver": solver, "num_inference_steps": 3}
        options |= {"eta": 1.0} if solver == "sde" else {}
        z = pipe.sample_latents(evidence, seeds, mask, guidance_scale=2.0, **options)
        assert z.device.type == pipe.detokenize(z, mask).device.type == AWAY


if __name__ == "__main__":
    backend = torch.utils.backend_registration
    backend._setup_privateuseone_for_python_backend(AWAY)  # type: ignore[attr-defined]
    getattr(torch, AWAY).get_amp_supported_dtype = lambda: [torch.bfloat16]
    waits = {}
    for make in (images, molecules, crystals):
        with tempfile.TemporaryDirectory() as folder:
            here = make(Path(folder), precision="bf16", log_every=1000)
            waits[make.__name__] = train(here)
    print(json.dumps(waits))
