"""Run by torchrun: a few steps of the tiny run, then what each rank ended with."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.training.tiny import tiny_trainer


def main(folder: Path, micro_batch_size: int) -> None:
    trainer = tiny_trainer(
        folder, steps=6, micro_batch_size=micro_batch_size, optimizer__muon_learning_rate=1e-3
    )
    world, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
    seen: list[int] = []
    fetch = trainer.dataset.batch
    trainer.dataset.batch = lambda indices: (seen.extend(indices), fetch(indices))[1]  # type: ignore
    gradients: dict[str, torch.Tensor] = {}
    update = trainer._update

    def record(row: dict) -> None:
        if trainer.step == 3:
            gradients.update({f"grad.{n}": p.grad.clone() for p, n in trainer.names.items()})
        update(row)

    trainer._update = record  # type: ignore[method-assign]
    trainer.fit()
    weights = {f"weight.{n}": p.detach().clone() for p, n in trainer.names.items()}
    averages = {f"ema.{n}": p.clone() for n, p in trainer.ema.model.named_parameters()}
    counts = {"world": torch.tensor(world), "seen": torch.tensor(seen)}
    save_file(weights | averages | gradients | counts, folder / f"rank{rank}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]))
