"""All settings of a run, as frozen dataclasses that do not import torch.

A recipe is a function that returns a `RunConfig`. The `config.yaml` in a run folder holds all its
fields, so the run can be repeated from it. Durations are optimizer steps, never epochs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from openunite.baselines.table import ObjectiveKind, find_objective
from openunite.files import write_text
from openunite.sampling import Sampling, upgraded
from openunite.settings import build
from openunite.training.limits import check_limits
from openunite.training.pace import Pace
from openunite.training.strict_yaml import read_yaml

MEMORY = "in memory"  # `source` of data that were passed as Python objects


@dataclass(frozen=True)
class DataConfig:
    """Where the data come from and how the held-out part is taken.

    Molecules and crystals with more than `max_atoms` atoms are skipped. If it is None, the limit is
    that of the model where it has one, else 20 for crystals and none for molecules. Crystals above
    `max_e_above_hull` (eV per atom, a column of CSV and .npz files) are left out and do not count
    as unusable. In a joint run, each kind makes up at least the fraction `least_share` (0 to 0.5)
    of an epoch: the smaller set is repeated.
    """

    source: str
    holdout_share: float = 0.05
    holdout_max: int = 1000
    max_bad_share: float = 0.001
    workers: int = 0
    max_atoms: int | None = None
    max_e_above_hull: float | None = None
    least_share: float = 0.0

    @property
    def limits(self) -> dict[str, Any]:
        """Arguments of the functions that open data: what to hold out, how much may be unusable."""
        names = ("holdout_share", "holdout_max", "max_bad_share")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the Generative Encoder and of the decoder, and what the ablations vary.

    `tokenizer` is "shared" (the Generative Encoder itself), "separate" (a second network of its
    size) or "posterior" (a second network that returns mean and variance, as in a KL-VAE).
    """

    num_registers: int
    latent_channels: int
    width: int
    depth: int
    num_heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    decoder_mlp_width: int
    num_context_tokens: int = 32
    context_start: int = 4
    decoder_input_width: int | None = None
    latent_norm: Literal["layernorm", "layernorm_plain", "rmsnorm", "none"] = "layernorm"
    block_norm: bool = True
    tokenizer: Literal["shared", "separate", "posterior"] = "shared"


@dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of equation (5); w rises from 0 over the fraction `flow_ramp` of the run.

    `draws_per_pass` flow draws go through the network in one pass: 1 needs the memory of a single
    draw; more is faster for small networks, where launching operations takes most of the time.
    `stage` is "joint" in UNITE. The two-stage baseline first trains an "autoencoder" and then, in a
    run that starts from it, a "denoiser". "decoder" trains the decoder of another run against a
    discriminator. `kl_weight` applies only if the tokenizer has a posterior. Each condition beside
    the class is dropped with probability `condition_dropout`, and all of them with the class with
    `common_dropout`. In a fraction `partial_share` of the flow draws the network sees a part of the
    observation, as for in-painting.
    """

    flow_draws: int = 3
    draws_per_pass: int = 1
    flow_weight: float = 0.3
    flow_ramp: float = 0.3
    time_shift: float = 0.5
    time_density: Literal["logit_normal", "uniform"] = "logit_normal"
    tokenize_time: float = 0.01
    recon_noise_start: float = 0.7
    recon_noise_share: float = 0.5
    label_dropout: float = 0.1
    condition_dropout: float = 0.2
    common_dropout: float = 0.1
    partial_share: float = 0.0
    stop_gradient: bool = True
    stage: Literal["joint", "autoencoder", "denoiser", "decoder"] = "joint"
    kl_weight: float = 1e-3
    adversarial_weight: float = 0.1


@dataclass(frozen=True)
class OptimizerConfig:
    """Muon for hidden matrices, AdamW for all other parameters.

    Learning rates rise linearly over `warmup_steps`, stay constant until the fraction
    `constant_share` of the run is over, and then fall as a cosine to the fraction `final_share`.
    """

    muon_learning_rate: float = 5e-3
    adamw_learning_rate: float = 2e-3
    muon_momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 50
    constant_share: float = 0.0
    final_share: float = 0.0
    clip_norm: float = 3.0
    ema_decay: float = 0.99


@dataclass(frozen=True)
class RunConfig:
    """All settings of one training run.

    `conditions` holds by name the `kind`, the `column` of the data if it has another name, and the
    settings of the kind; those that are left out follow from the data. `pace` holds the plans of a
    run with a deadline, the last of which gives `steps`.
    """

    recipe: str
    modality: str
    modality_config: dict[str, Any]
    num_classes: int | None  # None: take the number from the data
    data: DataConfig
    model: ModelConfig
    steps: int
    batch_size: int
    micro_batch_size: int | None = None
    seed: int = 0
    precision: str = "no"
    sharding: str = "none"
    compile: bool = False  # torch.compile of both networks
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    sampling: Sampling = field(default_factory=Sampling)
    conditions: dict[str, dict[str, Any]] = field(default_factory=dict)
    init_from: str | None = None
    pace: Pace | None = None
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    preview_every: int = 0
    log_every: int = 10
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_limits(flatten(to_dict(self)))
        if self.precision not in ("no", "bf16"):
            raise ValueError(f"precision must be 'no' (float32) or 'bf16', got {self.precision!r}")
        if self.sharding not in ("none", "full"):
            raise ValueError(f"sharding must be 'none' or 'full' (FSDP2), got {self.sharding!r}")
        if self.pace is not None and self.pace.steps != self.steps:
            raise ValueError(
                f"steps must be the {self.pace.steps} of the last plan of pace, got {self.steps}; "
                "set pace to null for another number"
            )
        self._check_stages()

    def _check_stages(self) -> None:
        """Raise ValueError if no objective fits these settings, or if one it needs is missing."""
        kind, tokenizer, norm = self.kind, self.model.tokenizer, self.model.latent_norm
        plain = not kind.factory and tokenizer == "shared"
        if self.objective.partial_share and not plain:
            raise ValueError(
                "objective.partial_share must be 0 unless one network tokenizes and generates, "
                f"with the stop-gradient, got {self.objective.partial_share}"
            )
        if tokenizer == "posterior" and norm != "none":
            raise ValueError(f"tokenizer posterior needs latent_norm none, got {norm!r}")
        if kind.origin and self.init_from is None:
            raise ValueError(f"stage {kind.stage} needs init_from, {kind.origin}; got none")
        if kind.modality and self.modality != kind.modality:
            raise ValueError(
                f"stage {kind.stage} needs modality {kind.modality}, got {self.modality!r}"
            )

    @property
    def planned_steps(self) -> int:
        """The number of steps in which schedules are written, see `Pace`."""
        return self.steps if self.pace is None else self.pace.planned

    def place(self, step: int) -> float:
        """Where a step stands in the schedules: at itself, unless the run was planned anew."""
        return step if self.pace is None else self.pace.place(step)

    def planned_anew(self, step: int, steps: int) -> "RunConfig":
        """The settings with `steps` in all, planned at `step`; for runs with a pace."""
        assert self.pace is not None
        return replace(self, steps=steps, pace=self.pace.anew(step, steps))

    @property
    def kind(self) -> ObjectiveKind:
        """The row of the table of objectives that these settings select."""
        stop_gradient = self.objective.stop_gradient
        return find_objective(
            self.objective.stage, self.model.tokenizer, stop_gradient=stop_gradient
        )


# These may differ when a run is resumed; they do not affect what is learned.
OPERATIONAL = (
    "micro_batch_size",
    "sharding",
    "compile",
    "checkpoint_every",
    "keep_checkpoints",
    "preview_every",
    "log_every",
    "trackers",
    "data.workers",
)


def for_model(conditions: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The conditions of a run as its model has them: without columns."""
    return {n: {k: v for k, v in c.items() if k != "column"} for n, c in conditions.items()}


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The config as plain dictionaries, lists and scalars."""
    plain: dict[str, Any] = _plain(asdict(config))
    return plain


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """The inverse of `to_dict`. Raises ValueError for an unknown, missing or mistyped field."""
    sampling = values.get("sampling")
    if isinstance(sampling, Mapping):
        values = {**values, "sampling": upgraded(sampling)}
    config: RunConfig = build(RunConfig, values)
    return config


def save_config(config: RunConfig, path: Path) -> None:
    """Write the config as plain YAML, atomically."""
    write_text(path, yaml.safe_dump(to_dict(config), sort_keys=False))


def load_config(path: Path) -> RunConfig:
    """Read a config.yaml. Raises a ValueError that names the file and the wrong field."""
    values = read_yaml(path)
    if values.get("precision") is False:
        values["precision"] = "no"  # YAML reads an unquoted `no` as false
    try:
        return from_dict(values)
    except RecursionError as error:
        raise ValueError(f"{path} is no file of settings: it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """One line "field: old -> new" per changed field, except the operational ones."""
    before, after = flatten(to_dict(old)), flatten(to_dict(new))
    return [
        f"{name}: {before.get(name)!r} -> {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and name not in OPERATIONAL
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """One flat mapping from nested ones; keys are joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
