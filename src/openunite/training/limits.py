"""Bounds for the numbers in the settings of a run: wide ones, meant to catch typing errors."""

import math
from collections.abc import Mapping
from typing import Any

from openunite.settings import short

_COUNT, _MANY, _SIZE, _DEPTH = (1, 10**9), (0, 10**9), (1, 10**5), (1, 1000)
_RATE, _SHARE, _WEIGHT = (0, 1000), (0, 1), (0, 10**6)

LIMITS: dict[str, tuple[float, float]] = {
    "num_classes": (0, 10**7),
    "steps": _COUNT,
    "batch_size": (1, 10**7),
    "micro_batch_size": (1, 10**7),
    "seed": (-(2**63), 2**63 - 1),
    "checkpoint_every": _COUNT,
    "keep_checkpoints": _COUNT,
    "preview_every": _MANY,
    "log_every": _COUNT,
    "data.workers": (0, 1024),
    "data.max_atoms": (1, 10**5),
    "model.num_registers": _SIZE,
    "model.latent_channels": _SIZE,
    "model.width": _SIZE,
    "model.depth": _DEPTH,
    "model.num_heads": _SIZE,
    "model.decoder_width": _SIZE,
    "model.decoder_depth": _DEPTH,
    "model.decoder_heads": _SIZE,
    "model.decoder_mlp_width": _SIZE,
    "model.decoder_input_width": _SIZE,
    "model.num_context_tokens": (0, 10**5),
    "model.context_start": (0, 1000),
    "objective.flow_draws": (1, 10**4),
    "objective.draws_per_pass": (1, 10**4),
    "objective.flow_weight": _WEIGHT,
    "objective.flow_ramp": _SHARE,
    "objective.tokenize_time": _SHARE,
    "objective.recon_noise_start": _SHARE,
    "objective.recon_noise_share": _SHARE,
    "objective.label_dropout": _SHARE,
    "objective.condition_dropout": _SHARE,
    "objective.common_dropout": _SHARE,
    "objective.partial_share": _SHARE,
    "objective.kl_weight": _WEIGHT,
    "objective.adversarial_weight": _WEIGHT,
    "optimizer.muon_learning_rate": _RATE,
    "optimizer.adamw_learning_rate": _RATE,
    "optimizer.muon_momentum": _SHARE,
    "optimizer.betas": _SHARE,
    "optimizer.warmup_steps": _MANY,
    "optimizer.constant_share": _SHARE,
    "optimizer.final_share": _SHARE,
    "optimizer.clip_norm": (0, 10**9),
    "optimizer.ema_decay": _SHARE,
}


def check_limits(settings: Mapping[str, Any]) -> None:
    """Raise ValueError if a number is not finite or out of bounds; `settings` are flattened."""
    for name, value in settings.items():
        for number in value if isinstance(value, list | tuple) else (value,):
            if type(number) not in (int, float):
                continue
            if not math.isfinite(number):
                raise ValueError(f"{name} must be finite, got {number}")
            least, most = LIMITS.get(name, (-math.inf, math.inf))
            if number < least:
                raise ValueError(f"{name} must be at least {least:,}, got {short(number)}")
            if number > most:
                raise ValueError(f"{name} must be at most {most:,}, got {short(number)}")
