"""Named model sizes, from "nano" to "XL"."""

from dataclasses import dataclass

from openunite.training.config import ModelConfig


@dataclass(frozen=True)
class Size:
    """Depth, width and heads of the Generative Encoder and of its decoder."""

    depth: int
    width: int
    num_heads: int
    decoder_depth: int
    decoder_width: int
    decoder_heads: int
    decoder_mlp_width: int
    num_context_tokens: int = 32
    context_start: int = 4
    decoder_input_width: int | None = None

    def model(self, num_registers: int, latent_channels: int) -> ModelConfig:
        """The model settings for this size, with K registers of C channels."""
        return ModelConfig(num_registers, latent_channels, **vars(self))


# tests/models/test_sizes.py compares the parameter counts at ImageNet-256 settings (K = 256,
# C = 32, 1,000 classes) with the paper's table. As in the release, the decoder of the large sizes
# has two Linears in front (decoder_input_width); that of the small sizes has one.
SIZES: dict[str, Size] = {
    "nano": Size(4, 128, 4, 2, 128, 4, 512, num_context_tokens=0, context_start=0),
    "micro": Size(6, 192, 6, 3, 192, 6, 768, num_context_tokens=4, context_start=2),
    "tiny": Size(8, 256, 8, 4, 256, 8, 1024, num_context_tokens=8, context_start=3),
    "S": Size(12, 384, 6, 6, 384, 6, 1536, decoder_input_width=None),
    "B": Size(12, 768, 12, 12, 768, 12, 3072, decoder_input_width=768),
    "Medium": Size(12, 1024, 16, 12, 768, 12, 3072, decoder_input_width=768),
    "L": Size(24, 1024, 16, 12, 768, 12, 3072, decoder_input_width=768),
    "XL": Size(28, 1152, 16, 24, 1024, 16, 4096, decoder_input_width=768),
}


def get_size(name: str) -> Size:
    """The size called `name`. Raises a ValueError that lists the known sizes."""
    if name not in SIZES:
        raise ValueError(f"unknown size {name!r}, expected one of {', '.join(SIZES)}")
    return SIZES[name]
