"""DINOv2 from `transformers` (extra `dinov2`), which is imported only here."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from openunite.evaluation.images.features.base import Features, module_checksum, resize, unit_rgb

SIDE = 224
DEFAULT = "facebook/dinov2-large"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Dinov2Extractor:
    """Images in [0, 1], resized to 224 x 224 -> the class token after the last norm."""

    name, label, class_names = "dinov2", "FD-DINOv2", ()

    def __init__(self, network: Any) -> None:
        self._network = network.eval().requires_grad_(False)
        self.checksum, self.dim = module_checksum(network), network.config.hidden_size

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b c h w"]) -> Features:
        pixels = resize(unit_rgb(images), SIDE)
        mean, std = (pixels.new_tensor(x).view(3, 1, 1) for x in (_MEAN, _STD))
        network = self._network.to(images.device)
        token: Tensor = network(pixel_values=(pixels - mean) / std).pooler_output
        return Features(token.float())


def load_dinov2(weights: str | Path | None = None) -> Dinov2Extractor:
    """The extractor from a folder or hub id of `transformers`; FileNotFoundError without it."""
    try:
        from transformers import Dinov2Model
    except ImportError as error:
        raise ImportError(
            "extractor dinov2 needs transformers: pip install 'openunite[dinov2]'"
        ) from error
    source = str(weights or DEFAULT)
    try:
        return Dinov2Extractor(Dinov2Model.from_pretrained(source))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{source} could not be loaded as DINOv2 ({type(error).__name__}); give a folder "
            "saved by transformers, or connect to the hub"
        ) from error
