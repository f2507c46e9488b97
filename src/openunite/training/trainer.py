"""The training loop: takes steps (see `step.py`), logs, saves and resumes."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from openunite.batch import Batch
from openunite.progress import say
from openunite.training.checkpoint import (
    checkpoint_name,
    list_checkpoints,
    load_newest,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    set_aside,
)
from openunite.training.collapse import CollapseGuard
from openunite.training.config import RunConfig, flatten, to_dict
from openunite.training.deadline import Deadline
from openunite.training.device import check_compiler, on_cpu
from openunite.training.ema import EMA
from openunite.training.loader import TrainingData, make_loader, sample_order
from openunite.training.log import MetricsLog, ProgressBar, Row, check_trackers
from openunite.training.optim import build_optimizers
from openunite.training.sharding import gathered, load_whole, shard, whole_on_cpu
from openunite.training.signals import StopSignals
from openunite.training.step import Objective, TrainStep
from openunite.training.threads import Threads

MAX_BAD_STEPS = 20


@dataclass(frozen=True)
class TrainResult:
    """How a call to `fit` ended; `finished` is False after a stop signal.

    `steps_done` is the step of the last checkpoint, from which the next call resumes.
    """

    steps_done: int
    finished: bool
    train_seconds: float
    samples_per_second: float


class Trainer:
    """Trains `objective` on `dataset` in `folder`; another call with the same config resumes.

    `preview(ema, step)` is called every `config.preview_every` steps on the main process. With a
    deadline the run is planned anew on the way.
    """

    def __init__(
        self,
        objective: Objective,
        dataset: TrainingData,
        config: RunConfig,
        folder: Path,
        preview: Callable[[nn.Module, int], None] | None = None,
        on_row: Callable[[Row], None] | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self.config, self.objective, self.dataset, self.folder = config, objective, dataset, folder
        self.preview, self.on_row, self.signals, self.agreed = preview, on_row, StopSignals(), False
        self.accelerator = Accelerator(
            cpu=on_cpu(),
            mixed_precision=config.precision,
            log_with=check_trackers(config.trackers),
            project_dir=folder,
        )
        device, world = self.accelerator.device, self.accelerator.num_processes
        self.deadline, self.threads = deadline, Threads(adapts=device.type == "cpu" and world == 1)
        self.model = _networks(objective).to(device).train()
        self.ema = EMA(self.model, config.optimizer.ema_decay)
        self.average: nn.Module = self.ema.model  # after `fit`: with full weights
        if sharded := config.sharding == "full" and world > 1:
            shard(self.model, self.ema.model, device)
        self.names: dict[Tensor, str] = {p: n for n, p in self.model.named_parameters()}
        self.optimizers = build_optimizers(self.model, config.optimizer)
        if config.compile:
            self._compile(whole_graphs=not sharded)
        self.train_step = TrainStep(
            objective=objective,
            config=config,
            order=sample_order(config, dataset, world),
            accelerator=self.accelerator,
            model=self.model,
            ema=self.ema,
            optimizers=self.optimizers,
            sharded=sharded,
        )
        self.step, self.seconds, self.bad_steps, self.saved_step = 0, 0.0, 0, 0

    def _compile(self, *, whole_graphs: bool) -> None:
        """Compile in place, so checkpoint names stay; static shapes if all batches have one."""
        check_compiler(self.accelerator.device)
        torch.compiler.reset()  # an earlier trainer's graphs would count as recompilations
        alike = self.dataset.sizes is None
        for part in self.model.values():
            # FSDP2 breaks the graph to gather weights.
            part.compile(fullgraph=alike and whole_graphs, dynamic=False if alike else None)
        self.objective.modality.compile()

    # ---- the loop -------------------------------------------------------------------------

    def fit(self) -> TrainResult:
        """Train to `config.steps`, or until a stop signal, and save a checkpoint.

        While the last steps are not finite, only a finished run is saved: a checkpoint of such a
        state might be useless and would replace a good one.
        """
        self._resume()
        main = self.accelerator.is_main_process
        log = MetricsLog(self.folder / "metrics.jsonl" if main else None, self.step, self._track())
        guard = CollapseGuard.of_run(self.config.planned_steps, self.config.optimizer.warmup_steps)
        bar = ProgressBar(self.step, self.config.steps, shown=main)
        first, before = self.step, self.seconds
        with self.threads, StopSignals() as self.signals:
            try:
                self.run(log, bar, guard)
            finally:
                bar.advance(log.flush())
                bar.close()
        finished = self.step >= self.config.steps
        if self.step > first and (finished or not self.bad_steps):
            self.save()
        self.average = gathered(self.ema.model)
        self.accelerator.end_training()
        rate = (self.step - first) * self.config.batch_size / max(1e-9, self.seconds - before)
        return TrainResult(self.saved_step, finished, self.seconds, rate)

    def run(self, log: MetricsLog, bar: ProgressBar, guard: CollapseGuard) -> None:
        """Take the remaining steps, or stop after a signal."""
        batches, self.agreed = self.threads.reading(iter(self.batches())), False
        if self.deadline is not None:
            self.deadline.start(self.step, self.config)
        while self.step < self.config.steps and not self._stops():
            tick = time.perf_counter()
            with self.threads.measured():
                row = self.advance(batches)
            seconds = time.perf_counter() - tick
            self.seconds += seconds
            self.threads.judge()
            log.add({**row, "samples_per_second": self.config.batch_size / seconds})
            if self._due(self.config.log_every) or self._due(self.config.checkpoint_every):
                rows = log.flush()
                bar.advance(rows)
                guard.check(rows)
            saves = self._due(self.config.checkpoint_every) and self.step < self.config.steps
            if saves and not self.bad_steps:
                self.save()
            if self.preview and self.config.preview_every and self._due(self.config.preview_every):
                self._draw(self.preview)
            if self.deadline is not None:
                self.config = self.train_step.config = self.deadline.plan(self.step, self.config)
                bar.resize(self.config.steps)

    def advance(self, batches: Iterator[Batch]) -> dict[str, Any]:
        """Take one optimizer step; return its row of the log."""
        row, verdict = self.train_step(self.step, batches, lambda: self.signals.asked)
        self.agreed = verdict.stop
        self.bad_steps = 0 if verdict.finite else self.bad_steps + 1
        self.step += 1
        if self.bad_steps >= MAX_BAD_STEPS:
            raise FloatingPointError(self._give_up())
        return {"step": self.step, **row}

    def _give_up(self) -> str:
        """The error message after too many steps that were not finite.

        The checkpoint that only such steps followed is set aside, because it may be useless.
        """
        last = self.step - self.bad_steps  # the last step that was finite
        folder = self.folder / "checkpoints"
        if self.accelerator.is_main_process:
            set_aside(folder, last)
        good = [path for path in list_checkpoints(folder) if path.name < checkpoint_name(last)]
        return (
            f"losses or gradients were not finite for {self.bad_steps} steps in a row, up to step "
            f"{self.step}; no such step touched the weights. Look for NaN in the data, or start "
            "another run folder with lower learning rates or precision 'no' (float32). "
            + (
                f"The last checkpoint known to be good is {good[0]}; the same command resumes there"
                if good
                else "No checkpoint is known to be good"
            )
        )

    def batches(self) -> Iterable[Batch]:
        """The micro-batches of this process from the current step to the last."""
        rank, pinned = self.accelerator.process_index, self.accelerator.device.type == "cuda"
        last = self.config.steps if self.deadline is None else sys.maxsize
        indices = self.train_step.order.batches(self.step, last, rank)
        return make_loader(self.dataset, indices, self.config.data.workers, pinned)

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def _stops(self) -> bool:
        """True after a stop signal; several processes stop after the same step."""
        return self.agreed if self.accelerator.num_processes > 1 else self.signals.asked

    def _draw(self, preview: Callable[[nn.Module, int], None]) -> None:
        average = gathered(self.ema.model)
        if self.accelerator.is_main_process:
            with torch.no_grad():
                preview(average, self.step)
        self.accelerator.wait_for_everyone()

    # ---- checkpoints ----------------------------------------------------------------------

    def save(self) -> Path | None:
        """Write a checkpoint of the current step; the main process writes, the others wait."""
        groups = {"model": self.model.state_dict(), "ema": self.ema.model.state_dict()}
        for name, optimizer in self.optimizers.items():
            groups[f"optimizer_{name}"] = optimizer_tensors(optimizer, self.names)
        main, path = self.accelerator.is_main_process, None
        tensors = {name: whole_on_cpu(group, keep=main) for name, group in groups.items()}
        if main:
            state = {
                "seconds": self.seconds,
                "bad_steps": self.bad_steps,
                "threads": self.threads.count,
            }
            state |= {} if self.deadline is None else {"elapsed": self.deadline.elapsed}
            keep = self.config.keep_checkpoints + (self.bad_steps > 0)  # so a good one remains
            folder = self.folder / "checkpoints"
            path = save_checkpoint(folder, self.step, tensors, state, keep)
        self.saved_step = self.step
        self.accelerator.wait_for_everyone()
        return path

    def _resume(self) -> None:
        """Continue from the newest sound checkpoint, if there is one."""
        loaded, complaints = load_newest(self.folder / "checkpoints")
        for complaint in complaints:
            self._say(f"warning: {complaint}")
        if self.accelerator.num_processes > 1:
            check_agreement(self.accelerator, self.folder, loaded.state["step"] if loaded else -1)
        if loaded is None:
            return
        load_whole(self.model, loaded.tensors["model"])
        load_whole(self.ema.model, loaded.tensors["ema"])
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, self.names, loaded.tensors[f"optimizer_{name}"])
        names = ("step", "seconds", "bad_steps")
        self.step, self.seconds, self.bad_steps = (loaded.state[name] for name in names)
        self.saved_step = self.step
        self.threads.set(loaded.state.get("threads", self.threads.most))
        if self.deadline is not None:
            self.deadline.spent = loaded.state.get("elapsed", self.seconds)
        self._say(f"resuming {self.folder} at step {self.step}")

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            say(text)

    def _track(self) -> list[Callable[[Row], None]]:
        """The receivers of log rows: `on_row`, and the trackers of the config."""
        own = [] if self.on_row is None else [self.on_row]
        if not self.config.trackers:
            return own
        settings = flatten(to_dict(self.config))
        plain = {k: v if isinstance(v, int | float | str) else str(v) for k, v in settings.items()}
        self.accelerator.init_trackers("tracker", config=plain)
        return [*own, lambda row: self.accelerator.log(row, step=int(row["step"]))]


def _networks(objective: Objective) -> nn.ModuleDict:
    """Everything that is trained and saved."""
    parts = {"encoder": objective.encoder, "decoder": objective.decoder}
    return nn.ModuleDict(parts | getattr(objective, "companions", {}))


def check_agreement(accelerator: Accelerator, folder: Path, step: int) -> None:
    """Raise ValueError unless all processes resume from the same step (-1: no checkpoint)."""
    own = torch.tensor([step], device=accelerator.device)
    found = sorted(set(accelerator.gather(own).tolist()))
    if len(found) > 1:
        raise ValueError(
            f"processes found different checkpoints in {folder} (steps {found}, -1 for "
            "none); expected one folder that all of them see: mount it on every node"
        )
