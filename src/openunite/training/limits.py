"""Bounds for the numbers in the settings of a run: wide ones, meant to catch typing errors."""

import math
from collections.abc import Mapping
from typing import Any

from openunite.settings import short

# A bound, and the fields by section that have it.
_BOUNDS: tuple[tuple[float, float, str, str], ...] = (
    (0, 10**7, "", "num_classes"),
    (1, 10**7, "", "batch_size micro_batch_size"),
    (1, 10**9, "", "steps checkpoint_every keep_checkpoints log_every"),
    (0, 10**9, "", "preview_every"),
    (-(2**63), 2**63 - 1, "", "seed"),
    (0, 1024, "data.", "workers"),
    (1, 10**5, "data.", "max_atoms"),
    (1, 10**5, "model.", "num_registers latent_channels width num_heads decoder_width"),
    (1, 10**5, "model.", "decoder_heads decoder_mlp_width decoder_input_width"),
    (1, 1000, "model.", "depth decoder_depth"),
    (0, 10**5, "model.", "num_context_tokens"),
    (0, 1000, "model.", "context_start"),
    (1, 10**4, "objective.", "flow_draws draws_per_pass"),
    (0, 10**6, "objective.", "flow_weight kl_weight adversarial_weight"),
    (0, 1, "objective.", "flow_ramp tokenize_time recon_noise_start recon_noise_share"),
    (0, 1, "objective.", "label_dropout condition_dropout common_dropout partial_share"),
    (0, 1000, "optimizer.", "muon_learning_rate adamw_learning_rate"),
    (0, 1, "optimizer.", "muon_momentum betas constant_share final_share ema_decay"),
    (0, 10**9, "optimizer.", "warmup_steps clip_norm"),
)
LIMITS = {
    section + name: (least, most)
    for least, most, section, names in _BOUNDS
    for name in names.split()
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
