"""The ablations of the paper as variants of one run, with the paper's numbers.

The paper's numbers are FID / rFID of UNITE-B on ImageNet-256 after 120 epochs. A variant changes
nothing but settings. A staged variant is two runs: an autoencoder, then a denoiser on its latents.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from openunite.sampling import Sampling
from openunite.settings import assign
from openunite.training.config import DataConfig, ModelConfig, OptimizerConfig, RunConfig


@dataclass(frozen=True)
class Variant:
    """One row of the ablation table: `settings` are assignments as those of `train --set`.

    `numbers` are the paper's FID and rFID, or its claim if it gives no number. `paper` compares
    generation and reconstruction with the default: 1 is worse (a larger distance), -1 better, 0 if
    versions of the paper disagree or say nothing. With `half_depth`, each of two networks has half
    the blocks, so that together they have about as many parameters as the shared one.
    """

    name: str
    axis: str
    numbers: str
    paper: tuple[int, int]
    settings: tuple[str, ...] = ()
    half_depth: bool = False

    @property
    def staged(self) -> bool:
        """Whether the variant is two runs; `apply` then returns the settings of the first."""
        return "objective.stage=autoencoder" in self.settings

    def apply(self, base: RunConfig) -> RunConfig:
        """A copy of `base` with this variant's settings."""
        config: RunConfig = assign(base, self.settings, {})
        if not self.half_depth:
            return config
        depth, start = config.model.depth // 2, config.model.context_start // 2
        return replace(config, model=replace(config.model, depth=depth, context_start=start))

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


_UNSTOPPED = "objective.stop_gradient=false"
_SEPARATE = "model.tokenizer=separate"
_POSTERIOR = ("model.tokenizer=posterior", "model.latent_norm=none")
_STAGED = "objective.stage=autoencoder"
_CLAIM = "no number; claim: one stage suffices"
_NORM, _NOISE = "latent norm", "objective.recon_noise_start"

DEFAULT = Variant("default", "default", "2.71 / 1.01", (0, 0))
VARIANTS: tuple[Variant, ...] = (
    DEFAULT,
    Variant("no_stop_gradient", "gradient", "5.69 / 0.95", (1, -1), (_UNSTOPPED,)),
    Variant("separate", "gradient", "3.81 / 1.38; later version 2.60 / 1.30", (0, 1), (_SEPARATE,)),
    Variant(
        "separate_no_stop_gradient",
        "gradient",
        "later version 2.24 / 0.85",
        (-1, -1),
        (_SEPARATE, _UNSTOPPED),
    ),
    Variant("staged_equal_compute", "stages", _CLAIM, (1, 0), (_SEPARATE, _STAGED)),
    Variant("staged_equal_parameters", "stages", _CLAIM, (1, 0), (_SEPARATE, _STAGED), True),
    Variant("staged_kl_vae", "stages", _CLAIM, (1, 0), (*_POSTERIOR, _STAGED)),
    Variant(
        "layernorm_plain", _NORM, "19.48 / 0.97", (1, -1), ("model.latent_norm=layernorm_plain",)
    ),
    Variant("rmsnorm", _NORM, "2.80 / 1.20", (1, 1), ("model.latent_norm=rmsnorm",)),
    Variant("no_block_norm", _NORM, "2.61 / 1.23", (-1, 1), ("model.block_norm=false",)),
    Variant("recon_noise_0", "recon noise", "2.87 / 1.09", (1, 1), (f"{_NOISE}=0",)),
    Variant("recon_noise_0.6", "recon noise", "2.80 / 1.21", (1, 1), (f"{_NOISE}=0.6",)),
    Variant("recon_noise_0.8", "recon noise", "2.87 / 1.42", (1, 1), (f"{_NOISE}=0.8",)),
    Variant("recon_noise_1", "recon noise", "6.58 / 1.60", (1, 1), (f"{_NOISE}=1",)),
    Variant("draws_1", "flow draws", "3.45 / 1.52", (1, 1), ("objective.flow_draws=1",)),
    Variant("draws_7", "flow draws", "2.43 / 1.04", (-1, 1), ("objective.flow_draws=7",)),
    Variant("shift_none", "time shift", "3.14 / 1.41", (1, 1), ("objective.time_shift=1.0",)),
    Variant("shift_0.75", "time shift", "2.93 / 1.26", (1, 1), ("objective.time_shift=0.75",)),
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
