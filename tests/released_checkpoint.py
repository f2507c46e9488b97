"""A small checkpoint in the released format, made from our own models."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import pad

from openunite.batch import CLASS, Evidence, Given
from openunite.convert import ConversionReport, convert
from openunite.convert.released import released_names
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import GenerativeEncoder

Weights = dict[str, Tensor]
IMAGES = {"height": 32, "width": 32, "channels": 3, "patch_size": 8, "patch_positions": "zero"}
SHARED = ("image", IMAGES, 16, 8)  # K = N = 16, C = 8
GIVEN: dict[str, Any] = {"context_start": 1, "decoder_heads": 2}


def models(seed: int = 0) -> tuple[GenerativeEncoder, Decoder]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = GenerativeEncoder(
            *SHARED, 24, 2, 3, num_classes=5, num_context_tokens=4, context_start=1
        )
        decoder = Decoder(*SHARED, 16, 3, 2, 40, input_width=20)
        with torch.no_grad():
            for parameter in [*encoder.parameters(), *decoder.parameters()]:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder, decoder


def released(seed: int = 0) -> Weights:
    """The two models as one state dict of the released format, unused tensors included."""
    encoder, decoder = models(seed)
    ours = {f"encoder.{name}": x for name, x in encoder.state_dict().items()}
    ours |= {f"decoder.{name}": x for name, x in decoder.state_dict().items()}
    weights = {old: ours[new].clone() for old, new in released_names(2, 3).items()}
    for name, change in {
        "patch_embed.position_embeddings": lambda x: pad(x, (0, 0, 1, 0))[None],
        "encoder.y_embedder.embedding_table.weight": lambda x: pad(x, (0, 0, 0, 1), value=9.0),
        "decoder.trainable_cls_token": lambda x: x.flatten(),
    }.items():
        weights[name] = change(weights[name])
    angles = encoder.angles.repeat_interleave(2, dim=1)
    return weights | {
        "decoder.decoder_pos_embed": pad(decoder.positions, (0, 0, 1, 0))[None],
        "encoder.pos_embed": torch.zeros(1, 16, 24),
        "encoder.t_embedder.special_time_emb": torch.zeros(24),
        "encoder.feat_rope.freqs_cos": angles[4:].cos(),
        "encoder.feat_rope_incontext.freqs_sin": angles.sin(),
        "lpips_loss.net.0.weight": torch.zeros(2),
        "lpips_loss.net.0.bias": torch.zeros(2),
    }


def run(tmp_path: Path, content: Any, **options: Any) -> tuple[ConversionReport, ImagePipeline]:
    """Save `content` (a .safetensors file where it is flat), convert it, load the pipeline."""
    flat = all(isinstance(x, Tensor) for x in content.values())
    source, output = tmp_path / ("w.safetensors" if flat else "w.pt"), tmp_path / "pipeline"
    save_file(content, source) if flat else torch.save(content, source)
    report = convert(source, output, **(GIVEN | options))
    return report, ImagePipeline.from_pretrained(output)


def is_model(pipeline: ImagePipeline, seed: int) -> bool:
    """Same outputs, hence also the same head counts, start block and fixed tables."""
    encoder, decoder = models(seed)
    generator = torch.Generator().manual_seed(1)
    z, image = (torch.randn(s, generator=generator) for s in ((2, 16, 8), (2, 3, 32, 32)))
    t, classes = torch.tensor([0.2, 0.7]), Given(torch.tensor([4, 5]), torch.tensor([True, False]))
    evidence = Evidence({CLASS: classes}, image.sigmoid())
    pairs = [
        (pipeline.encoder(z, t, evidence), encoder(z, t, evidence)),
        (pipeline.decoder(z), decoder(z)),
    ]
    return all(torch.equal(got, expected) for got, expected in pairs)
