"""The released checkpoint format: tensor names, and model sizes from tensor shapes.

No other module knows the released names.
"""

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from math import isqrt
from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import GenerativeEncoder

Sizes = dict[str, dict[str, Any]]

MARKS = ("latent_tokens", "encoder.blocks.0.attn.qkv.weight")  # a set of weights has both
PATCH_POSITIONS = "patch_embed.position_embeddings"

# Released name -> name here. "#" is the index of a block, "*" stands for "weight" and "bias".
_TABLE = {
    "latent_tokens": "encoder.register_positions",
    "patch_embed.position_embeddings": "encoder.embedder.positions",
    "patch_embed.patch_embeddings.projection.*": "encoder.embedder.projection.*",
    "encoder.in_context_posemb": "encoder.context_positions",
    "encoder.up_sample.*": "encoder.register_input.*",
    "encoder.t_embedder.W": "encoder.time_embedding.frequencies",
    "encoder.t_embedder.mlp.0.*": "encoder.time_embedding.mlp_in.*",
    "encoder.t_embedder.mlp.2.*": "encoder.time_embedding.mlp_out.*",
    "encoder.y_embedder.embedding_table.weight": "encoder.class_embedding.weight",
    "encoder.blocks.#.norm1.weight": "encoder.blocks.#.norm_attention.weight",
    "encoder.blocks.#.attn.qkv.*": "encoder.blocks.#.attention.qkv.*",
    "encoder.blocks.#.attn.q_norm.weight": "encoder.blocks.#.attention.q_norm",
    "encoder.blocks.#.attn.k_norm.weight": "encoder.blocks.#.attention.k_norm",
    "encoder.blocks.#.attn.proj.*": "encoder.blocks.#.attention.out.*",
    "encoder.blocks.#.norm2.weight": "encoder.blocks.#.norm_mlp.weight",
    "encoder.blocks.#.mlp.w12.*": "encoder.blocks.#.mlp.up.*",
    "encoder.blocks.#.mlp.w3.*": "encoder.blocks.#.mlp.down.*",
    "encoder.blocks.#.norm3.weight": "encoder.blocks.#.norm_block.weight",
    "encoder.blocks.#.adaLN_modulation.1.*": "encoder.blocks.#.modulation.*",
    "encoder.final_layer.norm_final.weight": "encoder.norm_out.weight",
    "encoder.final_layer.adaLN_modulation.1.*": "encoder.modulation_out.*",
    "encoder.final_layer.linear.*": "encoder.latent_output.*",
    "encoder_layer_norm.*": "encoder.latent_norm.*",
    "up_sample_decoder.*": "decoder.widen.*",
    "decoder.decoder_embed.*": "decoder.latent_input.*",
    "decoder.trainable_cls_token": "decoder.cls_token",
    "decoder.decoder_layers.#.layernorm_before.*": "decoder.blocks.#.norm_attention.*",
    "decoder.decoder_layers.#.qkv.*": "decoder.blocks.#.attention.qkv.*",
    "decoder.decoder_layers.#.attn_proj.*": "decoder.blocks.#.attention.out.*",
    "decoder.decoder_layers.#.layernorm_after.*": "decoder.blocks.#.norm_mlp.*",
    "decoder.decoder_layers.#.ffn_up.*": "decoder.blocks.#.mlp_up.*",
    "decoder.decoder_layers.#.ffn_down.*": "decoder.blocks.#.mlp_down.*",
    "decoder.decoder_norm.*": "decoder.norm_out.*",
    "decoder.decoder_pred.*": "decoder.head.projection.*",
}
_RESHAPED: dict[str, Callable[[Tensor], Tensor]] = {
    PATCH_POSITIONS: lambda table: table[0, 1:],
    "encoder.y_embedder.embedding_table.weight": lambda table: table[:-1],
    "decoder.trainable_cls_token": lambda token: token.reshape(1, 1, -1),
}
UNUSED_ROWS = {
    "encoder.y_embedder.embedding_table.weight[-1]": "the row after the null class, never read",
    "patch_embed.position_embeddings[:, 0]": "the row of a token that is not there, never read",
}
_UNUSED = {
    "encoder.pos_embed": "never read by the release",
    "encoder.t_embedder.special_time_emb": "never read by the release",
    "encoder.feat_rope.*": "fixed rotary table, recomputed in float64",
    "encoder.feat_rope_incontext.*": "fixed rotary table, recomputed in float64",
    "decoder.decoder_pos_embed": "fixed 2-D sin-cos table, recomputed",
    "lpips_loss.*": "frozen perceptual network, not part of the model",
}
# Sizes are read from these tensors, so their number of axes is checked first.
_AXES = {
    "latent_tokens": 3,
    "patch_embed.position_embeddings": 3,
    "patch_embed.patch_embeddings.projection.weight": 4,
    "encoder.in_context_posemb": 3,
    "encoder.y_embedder.embedding_table.weight": 2,
    "encoder.blocks.0.attn.q_norm.weight": 1,
    "encoder_layer_norm.weight": 1,
    "decoder.decoder_embed.weight": 2,
    "decoder.decoder_layers.0.ffn_up.weight": 2,
}
_BASE = (12, 768)  # depth and width of size B, for encoder and decoder alike


def released_names(depth: int, decoder_depth: int) -> dict[str, str]:
    """Released name -> name here ("encoder..." or "decoder..."), for all tensors of a model."""
    names: dict[str, str] = {}
    for old, new in _TABLE.items():
        count = decoder_depth if old.startswith("decoder.") else depth
        for index in range(count if "#" in old else 1):
            for kind in ("weight", "bias") if "*" in old else ("",):
                name, target = (x.replace("#", str(index)).replace("*", kind) for x in (old, new))
                names[name] = target
    return names


def reshaped(name: str, tensor: Tensor) -> Tensor:
    """A released tensor (or its gradient) in the shape of this library."""
    return _RESHAPED[name](tensor) if name in _RESHAPED else tensor


def reason_unused(name: str) -> str | None:
    """Why a tensor outside the table is not needed; None if the format does not know it."""
    return next((why for pattern, why in _UNUSED.items() if fnmatchcase(name, pattern)), None)


def needed_names(found: Mapping[str, Tensor]) -> dict[str, str]:
    """`released_names` for the depths of these weights. Raises ValueError if one is missing."""
    names = released_names(*_depths(found))
    if missing := [name for name in names if name not in found]:
        more = f" and {len(missing) - 20} more" if len(missing) > 20 else ""
        raise ValueError(
            f"expected {len(names)} tensors, got all but {', '.join(missing[:20])}{more}; "
            "the file is incomplete or of another architecture"
        )
    return names


def sizes_of(
    found: Mapping[str, Tensor], context_start: int | None, decoder_heads: int | None
) -> Sizes:
    """Constructor arguments of encoder and decoder, from tensor shapes and two given numbers.

    Raises ValueError for a wrong number of axes or layout, and if a number is needed but None.
    """
    for name, axes in _AXES.items():
        if found[name].ndim != axes:
            raise ValueError(f"{name}: expected {axes} axes, got shape {tuple(found[name].shape)}")
    depth, decoder_depth = _depths(found)
    width = found["latent_tokens"].shape[2]
    decoder_width, input_width = found["decoder.decoder_embed.weight"].shape
    if context_start is None and (depth, width) == _BASE:
        context_start = 4
    if decoder_heads is None and (decoder_depth, decoder_width) == _BASE:
        decoder_heads = 12
    if context_start is None or decoder_heads is None:
        raise ValueError(
            "a checkpoint does not hold context_start and decoder_heads, and they are known for "
            f"size B (both 12 x 768) only: got encoder {depth} x {width}, decoder {decoder_depth} "
            f"x {decoder_width}; pass --context-start and --decoder-heads"
        )
    encoder = {
        "width": width,
        "depth": depth,
        "num_heads": max(1, width // len(found["encoder.blocks.0.attn.q_norm.weight"])),
        "num_classes": len(found["encoder.y_embedder.embedding_table.weight"]) - 2,
        "num_context_tokens": found["encoder.in_context_posemb"].shape[1],
        "context_start": context_start,
    }
    decoder = {
        "width": decoder_width,
        "depth": decoder_depth,
        "num_heads": decoder_heads,
        "mlp_width": len(found["decoder.decoder_layers.0.ffn_up.weight"]),
        "input_width": input_width,
    }
    shared = _shared_sizes(found)
    return {"encoder": shared | encoder, "decoder": shared | decoder}


def check_fixed_tables(
    found: Mapping[str, Tensor], encoder: GenerativeEncoder, decoder: Decoder
) -> None:
    """Raise ValueError if a fixed table in the file differs from the one computed here."""
    angles = encoder.angles.repeat_interleave(2, dim=1)
    later = angles[encoder.config.num_context_tokens :]
    ours = {  # the rotary tables of the file carry up to 1e-4 of float32 error
        "decoder.decoder_pos_embed": (pad(decoder.positions, (0, 0, 1, 0))[None], 1e-5),
        "encoder.feat_rope.freqs_cos": (later.cos(), 1e-3),
        "encoder.feat_rope.freqs_sin": (later.sin(), 1e-3),
        "encoder.feat_rope_incontext.freqs_cos": (angles.cos(), 1e-3),
        "encoder.feat_rope_incontext.freqs_sin": (angles.sin(), 1e-3),
    }
    for name, (table, tolerance) in ours.items():
        got = found.get(name, table)
        if got.shape != table.shape:
            raise ValueError(f"{name}: expected {tuple(table.shape)}, got {tuple(got.shape)}")
        error = float((got.float() - table).abs().max())
        if not error <= tolerance:
            raise ValueError(
                f"{name}: expected the fixed table of the release within {tolerance}, got one "
                f"that differs by {error:.2g}; this file is of another architecture"
            )


def _depths(found: Mapping[str, Tensor]) -> tuple[int, int]:
    """Number of encoder blocks and of decoder blocks, at least 1 each."""

    def count(pattern: str) -> int:
        return max(1, len({m[1] for name in found if (m := re.match(pattern, name))}))

    return count(r"encoder\.blocks\.(\d+)\."), count(r"decoder\.decoder_layers\.(\d+)\.")


def _shared_sizes(found: Mapping[str, Tensor]) -> dict[str, Any]:
    _, channels, patch, _ = found["patch_embed.patch_embeddings.projection.weight"].shape
    registers = found["latent_tokens"].shape[1]
    patches = found[PATCH_POSITIONS].shape[1] - 1
    rows = isqrt(max(0, patches))
    if patches != registers or rows**2 != patches:
        raise ValueError(
            f"expected as many latent_tokens as patches, and a square of them, got {registers} "
            f"and {patches}; the released decoder knows no other layout"
        )
    return {
        "modality": "image",
        "modality_config": {
            "height": rows * patch,
            "width": rows * patch,
            "channels": channels,
            "patch_size": patch,
            "patch_positions": "zero",
        },
        "num_registers": registers,
        "latent_channels": len(found["encoder_layer_norm.weight"]),
    }
