"""Recipes for molecules and crystals.

If a recipe does not set `elements` or `max_atoms`, a run takes them from its data at the start.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openunite.sampling import Sampling
from openunite.training.config import (
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RunConfig,
)
from openunite.training.sizes import get_size

Settings = Mapping[str, Any]

_QM9: Settings = {"elements": [1, 6, 7, 8, 9], "max_atoms": 29}
_LATENT_CHANNELS = 16


def qm9() -> RunConfig:
    """QM9, 130,831 molecules with hydrogens, in ten minutes: `make quickstart-molecules`.

    Cost: nine minutes on two CPU cores without AVX-512; needs the extra `molecules`, whose package
    qm9pack carries the data. Measured, seeds 0 and 1 (docs/LOG.md): RMSD of reconstructions 0.011
    and 0.012 A, 94 % of them stable (real 95 %); 66 and 65 % of the samples' atoms stable (real
    99 %), 97 and 96 % of the hydrogens, no stable molecule yet.
    """
    recipe = _small("qm9", "molecule", {**_QM9, "added": True, "states": True}, "qm9")
    objective = replace(recipe.objective, time_density="uniform")
    formula = {"kind": "composition", "counts": True}
    return replace(recipe, objective=objective, conditions={"formula": formula})


def molecules() -> RunConfig:
    """Your own molecules: `openunite train molecules --data FILE_OR_FOLDER` (SDF, xyz, npz)."""
    return _small("molecules", "molecule", {}, "")


def crystals() -> RunConfig:
    """Your own crystals: `openunite train crystals --data FILE_OR_FOLDER` (CIF, CSV, npz).

    `make quickstart-crystals` runs it on "quickstart-crystals", data in the packages jarvis-tools
    and pymatgen. Cost: seven minutes on two CPU cores without AVX-512; needs the extra `crystals`.
    Measured (docs/LOG.md): match rate 0.69 (at most 0.90), 87 % of the samples structurally and
    78 % compositionally valid (real 100 % and 90 %).
    """
    recipe = _small("crystals", "crystal", {}, "quickstart-crystals")
    objective = replace(recipe.objective, flow_draws=3, flow_weight=1.0)
    return replace(
        recipe,
        steps=1100,
        model=replace(recipe.model, latent_channels=_LATENT_CHANNELS),
        objective=objective,
        optimizer=OptimizerConfig(muon_learning_rate=5e-3),
        sampling=recipe.sampling.change(temperature=1.0),
    )


def qm9_s() -> RunConfig:
    """QM9 with UNITE-S as in the paper: 12 x 384 x 6, 16 channels, batch 512, 8,000 epochs.

    The paper reports match 99.37 %, RMSD 0.039 A, validity 94.90 % and uniqueness 99.71 %, by the
    protocol of ADiT, under which real molecules have a validity of 94.7 %. Cost: not measured;
    about 22 GPU-hours on one H200 at MFU 40 % (`openunite info qm9_s --gpus 1`).
    """
    return _paper("qm9_s", "molecule", _QM9, "qm9", epochs=8000, structures=100_000)


def mp20_s() -> RunConfig:
    """MP-20 with UNITE-S as in the paper: batch 512, 10,000 epochs. Needs --data with its CSVs.

    The paper reports validity 99.0 % (structure), 89.9 % (composition), 87.9 % (both) and a match
    rate of 75.7 %. Cost: not measured; about 6 GPU-hours on one H200 at MFU 40 %.
    """
    return _paper("mp20_s", "crystal", {"max_atoms": 20}, "", epochs=10_000, structures=27_136)


def joint_s() -> RunConfig:
    """Molecules and crystals in one UNITE-S: `--data qm9,MP20_FOLDER`, the dataset as class.

    As in the paper 12 x 384 x 6, 16 channels, batch 512; structures are drawn from the union, so
    QM9 is seen four times as often as MP-20. Sizes up to 29 and 20 atoms. Cost: not measured;
    about 16 GPU-hours on one H200 at MFU 40 %, by the FLOPs of the two recipes above.
    """
    recipe = _paper("joint_s", "joint", {"max_atoms": 29}, "", epochs=5000, structures=127_136)
    sampling = replace(recipe.sampling, guidance_scale=1.5)
    return replace(recipe, modality_config={}, num_classes=2, sampling=sampling)


def joint() -> RunConfig:
    """Your own molecules and crystals in one small model: `--data MOLECULES,CRYSTALS`.

    Each kind makes up half of an epoch. Cost: not measured; the steps are those of `qm9`, with
    other sizes of structures.
    """
    recipe = _small("joint", "joint", {}, "")
    return replace(recipe, num_classes=2, data=DataConfig("", least_share=0.5))


def _small(name: str, modality: str, settings: Settings, source: str) -> RunConfig:
    """A run with 1.7 M parameters, which two CPU cores can train in minutes."""
    return RunConfig(
        recipe=name,
        modality=modality,
        modality_config=dict(settings),
        num_classes=0,
        data=DataConfig(source),
        model=ModelConfig(
            num_registers=settings.get("max_atoms", 1),
            latent_channels=24,
            width=128,
            depth=4,
            num_heads=4,
            decoder_width=128,
            decoder_depth=3,
            decoder_heads=4,
            decoder_mlp_width=256,
            num_context_tokens=0,
            context_start=0,
        ),
        steps=1900,
        batch_size=32,
        objective=ObjectiveConfig(
            flow_draws=1, flow_weight=0.3, flow_ramp=0.15, time_shift=1.0, recon_noise_start=0.9
        ),
        optimizer=OptimizerConfig(muon_learning_rate=1e-2),
        sampling=Sampling("sde", 50, guidance_scale=1.0, options={"eta": 1.0, "temperature": 0.8}),
        checkpoint_every=500,
        preview_every=500,
    )


def _paper(
    name: str, modality: str, settings: Settings, source: str, epochs: int, structures: int
) -> RunConfig:
    """A run as in the paper, which uses AdamW at 1e-4 with batch 512; Muon's rate is scaled."""
    size, steps_per_epoch = get_size("S"), structures // 512
    return RunConfig(
        recipe=name,
        modality=modality,
        modality_config=dict(settings),
        num_classes=0,
        data=DataConfig(source, workers=4),
        model=size.model(settings["max_atoms"], _LATENT_CHANNELS),
        steps=epochs * steps_per_epoch,
        batch_size=512,
        precision="bf16",
        objective=ObjectiveConfig(
            flow_draws=4, flow_weight=1.0, time_shift=1.0, recon_noise_start=0.9
        ),
        optimizer=OptimizerConfig(1e-3, 3e-4, warmup_steps=2000, ema_decay=0.9999),
        sampling=Sampling("sde", 100, guidance_scale=1.0, options={"eta": 1.0}),
        checkpoint_every=5000,
        preview_every=5000,
    )
