"""The ablations of the paper as variants of one run, with the paper's numbers.

The paper's numbers are FID / rFID of UNITE-B on ImageNet-256 after 120 epochs. A variant changes
nothing but settings. A staged variant is two runs: an autoencoder, then a denoiser on its latents.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from openunite.sampling import Sampling
from openunite.training.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
)


@dataclass(frozen=True)
class Paper:
    """FID and rFID of the paper's run, or its claim if it gives no number.

    `generation` and `reconstruction` compare the variant with the default: 1 is worse (a larger
    distance), -1 better, 0 if versions of the paper disagree or say nothing.
    """

    numbers: str
    generation: int
    reconstruction: int


@dataclass(frozen=True)
class Variant:
    """One row of the ablation table.

    With `half_depth`, each of two networks has half the blocks, so that together they have about
    as many parameters as the shared one.
    """

    name: str
    axis: str
    paper: Paper
    model: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    half_depth: bool = False

    @property
    def staged(self) -> bool:
        """Whether the variant is two runs; `apply` then returns the settings of the first."""
        return "stage" in self.objective

    def apply(self, base: RunConfig) -> RunConfig:
        """A copy of `base` with this variant's settings."""
        model = replace(base.model, **self.model)
        if self.half_depth:
            model = replace(model, depth=model.depth // 2, context_start=model.context_start // 2)
        return replace(base, model=model, objective=replace(base.objective, **self.objective))

    def stages(self, base: RunConfig, steps: int, autoencoder: str) -> tuple[RunConfig, RunConfig]:
        """The configs of both stages, `steps` each; `autoencoder` is the folder of the first."""
        config = replace(self.apply(base), steps=steps)
        second = replace(config.objective, stage="denoiser")
        return config, replace(config, objective=second, init_from=autoencoder)


def ablation_base() -> RunConfig:
    """The default: the paper's settings on every axis, on the embedded images, at width 64.

    It does not use the recipe `fashion`, so that tuning the recipe does not change the study. 600
    steps of 32 take about 150 s of one core (AMD EPYC without AVX-512).
    """
    return RunConfig(
        recipe="ablation",
        modality="image",
        modality_config={
            "height": 28,
            "width": 28,
            "channels": 1,
            "patch_size": 7,
            "l1_weight": 0.5,
            "l2_weight": 6.0,
        },
        num_classes=10,
        data=DataConfig("fashion-mnist-mini"),
        model=ModelConfig(
            num_registers=16,
            latent_channels=24,
            width=64,
            depth=4,
            num_heads=2,
            decoder_width=64,
            decoder_depth=2,
            decoder_heads=2,
            decoder_mlp_width=128,
            num_context_tokens=0,
            context_start=0,
        ),
        steps=600,
        batch_size=32,
        optimizer=OptimizerConfig(muon_learning_rate=7e-3),
        sampling=Sampling("heun", 10, 1.0),
        checkpoint_every=150,
    )


_SEPARATE = {"tokenizer": "separate"}
_STAGED = {"stage": "autoencoder"}
_CLAIM = Paper("no number; claim: one stage suffices", 1, 0)

DEFAULT = Variant("default", "default", Paper("2.71 / 1.01", 0, 0))
VARIANTS: tuple[Variant, ...] = (
    DEFAULT,
    Variant(
        "no_stop_gradient",
        "gradient",
        Paper("5.69 / 0.95", 1, -1),
        objective={"stop_gradient": False},
    ),
    Variant(
        "separate",
        "gradient",
        Paper("3.81 / 1.38; later version 2.60 / 1.30", 0, 1),
        model=_SEPARATE,
    ),
    Variant(
        "separate_no_stop_gradient",
        "gradient",
        Paper("later version 2.24 / 0.85", -1, -1),
        model=_SEPARATE,
        objective={"stop_gradient": False},
    ),
    Variant("staged_equal_compute", "stages", _CLAIM, model=_SEPARATE, objective=_STAGED),
    Variant(
        "staged_equal_parameters",
        "stages",
        _CLAIM,
        model=_SEPARATE,
        objective=_STAGED,
        half_depth=True,
    ),
    Variant(
        "staged_kl_vae",
        "stages",
        _CLAIM,
        model={"tokenizer": "posterior", "latent_norm": "none"},
        objective=_STAGED,
    ),
    Variant(
        "layernorm_plain",
        "latent norm",
        Paper("19.48 / 0.97", 1, -1),
        model={"latent_norm": "layernorm_plain"},
    ),
    Variant("rmsnorm", "latent norm", Paper("2.80 / 1.20", 1, 1), model={"latent_norm": "rmsnorm"}),
    Variant(
        "no_block_norm", "latent norm", Paper("2.61 / 1.23", -1, 1), model={"block_norm": False}
    ),
    Variant(
        "recon_noise_0",
        "recon noise",
        Paper("2.87 / 1.09", 1, 1),
        objective={"recon_noise_start": 0.0},
    ),
    Variant(
        "recon_noise_0.6",
        "recon noise",
        Paper("2.80 / 1.21", 1, 1),
        objective={"recon_noise_start": 0.6},
    ),
    Variant(
        "recon_noise_0.8",
        "recon noise",
        Paper("2.87 / 1.42", 1, 1),
        objective={"recon_noise_start": 0.8},
    ),
    Variant(
        "recon_noise_1",
        "recon noise",
        Paper("6.58 / 1.60", 1, 1),
        objective={"recon_noise_start": 1.0},
    ),
    Variant("draws_1", "flow draws", Paper("3.45 / 1.52", 1, 1), objective={"flow_draws": 1}),
    Variant("draws_7", "flow draws", Paper("2.43 / 1.04", -1, 1), objective={"flow_draws": 7}),
    Variant("shift_none", "time shift", Paper("3.14 / 1.41", 1, 1), objective={"time_shift": 1.0}),
    Variant("shift_0.75", "time shift", Paper("2.93 / 1.26", 1, 1), objective={"time_shift": 0.75}),
)
SMALL = (
    "default",
    "no_stop_gradient",
    "separate",
    "separate_no_stop_gradient",
    "staged_equal_compute",
    "layernorm_plain",
    "recon_noise_0",
    "recon_noise_1",
    "draws_1",
)


def grid(name: str, only: Sequence[str] = ()) -> tuple[Variant, ...]:
    """The variants of grid "small" or "full"; with `only`, the default and the ones it names.

    The default comes first, because the others are compared with it. Raises ValueError for a name
    that is not in the grid.
    """
    variants = tuple(v for v in VARIANTS if name == "full" or v.name in SMALL)
    for asked in only:
        if asked not in {v.name for v in variants}:
            near = get_close_matches(asked, [v.name for v in VARIANTS], 1, cutoff=0.0)[0]
            there = "" if near in {v.name for v in variants} else " of the full grid"
            raise ValueError(
                f"there is no variant {asked!r} in the {name} grid; the nearest is {near}{there}"
            )
    return tuple(v for v in variants if not only or v is DEFAULT or v.name in only)
