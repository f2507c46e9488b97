"""Run by torchrun: a few steps of the tiny run, then what each rank ended with."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tests.training.tiny import tiny_config, tiny_trainer
from torch.distributed.tensor import DTensor

from openunite.flow.random import SlotRandom
from openunite.objective import LossTerm
from openunite.training.config import ModelConfig
from openunite.training.sharding import whole
from openunite.training.step import Verdict


def local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@dataclass
class Awaited:
    """A message under way, and a note of when somebody waits for it."""

    work: torch.distributed.Work
    events: list[str]

    def wait(self) -> None:
        self.events.append("wait")
        self.work.wait()


def main(folder: Path, micro_batch_size: int, sharding: str, steps: int) -> None:
    # Squared errors: the gradient of absolute ones jumps where rounding decides a sign.
    image = tiny_config().modality_config | {"l1_weight": 0.0, "l2_weight": 5.0}
    trainer = tiny_trainer(
        folder,
        steps=6,
        modality_config=image,
        model=ModelConfig(4, 8, 32, 2, 2, 32, 1, 2, 64, 0, 0),  # one parameter has no elements
        micro_batch_size=micro_batch_size,
        optimizer__muon_learning_rate=1e-3,
        sharding=sharding,
    )
    world, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
    seen: list[int] = []
    fetch = trainer.dataset.batch
    trainer.dataset.batch = lambda indices: (seen.extend(indices), fetch(indices))[1]  # type: ignore
    gradients: dict[str, torch.Tensor] = {}
    update, terms = trainer.train_step.update, trainer.objective.terms

    def record(step: int, verdict: Verdict) -> float:
        if step == 3:
            used = {n: p.grad for p, n in trainer.names.items() if p.grad is not None}
            gradients.update({f"grad.{n}": whole(grad).clone() for n, grad in used.items()})
        return update(step, verdict)

    def counted(tensor: torch.Tensor, how: str) -> torch.Tensor:
        reductions.append(how)
        return reduce(tensor, how)

    events: list[str] = []  # loss terms, and messages of gradients, as they happen
    all_reduce = torch.distributed.all_reduce

    def message(tensor: torch.Tensor, *given: Any, **how: Any) -> Any:
        work = all_reduce(tensor, *given, **how)
        if not how.get("async_op"):
            return work
        events.append(f"message of {tensor.numel()}")
        return Awaited(work, events)

    def watched(batch: Any, step: int, random: SlotRandom) -> Iterator[LossTerm]:
        if step + 1 == steps and rank == world - 1 and not trainer.signals.asked:
            os.kill(os.getpid(), signal.SIGTERM)  # like a cluster that takes one machine back
        for term in terms(batch, step, random):
            events.append("term")
            yield term

    torch.distributed.all_reduce = message  # type: ignore
    object.__setattr__(trainer.objective, "terms", watched)
    reductions: list[str] = []
    reduce = trainer.accelerator.reduce
    trainer.accelerator.reduce = counted  # type: ignore
    trainer.train_step.update = record  # type: ignore[method-assign]
    trainer.accelerator.end_training = lambda: None  # it ends the processes' group
    trainer.fit()
    weights = {f"weight.{n}": whole(p.detach()).clone() for p, n in trainer.names.items()}
    averages = {f"ema.{n}": p.clone() for n, p in trainer.average.named_parameters()}
    held = sum(local(p).numel() for p in trainer.names)
    sharded = sum(isinstance(p, DTensor) for p in trainer.names)
    counts = {"world": world, "held": held, "sharded": sharded, "seen": seen}
    counts |= {"steps": trainer.step, "reductions": len(reductions)}
    counts = {name: torch.tensor(value) for name, value in counts.items()}
    happened = json.dumps(events)
    absolute = default_loss(folder, micro_batch_size, sharding) if steps == 6 else {}
    kept = weights | averages | gradients | counts | absolute
    save_file(kept, folder / f"rank{rank}.safetensors", {"events": happened})


def default_loss(folder: Path, micro_batch_size: int, sharding: str) -> dict[str, torch.Tensor]:
    """Three steps of the default image loss, absolute errors: losses and weights."""
    changes = {"micro_batch_size": micro_batch_size, "sharding": sharding}
    trainer = tiny_trainer(folder / "absolute", steps=3, optimizer__warmup_steps=1, **changes)
    batches, rows = iter(trainer.batches()), []
    for _ in range(3):
        row = trainer.advance(batches)
        rows.append(torch.stack([row["loss"], row["grad_norm"].double()]))
    found = {f"absolute.{n}": whole(p.detach()).clone() for p, n in trainer.names.items()}
    return {"absolute.rows": torch.stack(rows), **found}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
