"""Build the models and the objective of a `RunConfig`, and load other weights into models."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from openunite.baselines.encoders import ENCODERS
from openunite.baselines.objectives import BaselineObjective
from openunite.conditions.base import UNSEEN
from openunite.modality import Modality, get_modality
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import Encoder
from openunite.objective import UniteObjective
from openunite.training.config import RunConfig, for_model


def build_models(config: RunConfig) -> tuple[Encoder, Decoder]:
    """Encoder and decoder, initialized from `config.seed` without touching torch's generator."""
    size = config.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = ENCODERS[size.tokenizer](
            modality=config.modality,
            modality_config=config.modality_config,
            num_registers=size.num_registers,
            latent_channels=size.latent_channels,
            width=size.width,
            depth=size.depth,
            num_heads=size.num_heads,
            num_classes=config.num_classes or 0,
            num_context_tokens=size.num_context_tokens,
            context_start=size.context_start,
            latent_norm_kind=size.latent_norm,
            block_norm=size.block_norm,
            conditions=for_model(config.conditions),
        )
        decoder = Decoder(
            modality=config.modality,
            modality_config=config.modality_config,
            num_registers=size.num_registers,
            latent_channels=size.latent_channels,
            width=size.decoder_width,
            depth=size.decoder_depth,
            num_heads=size.decoder_heads,
            mlp_width=size.decoder_mlp_width,
            input_width=size.decoder_input_width,
        )
    return encoder, decoder


def build_objective(
    config: RunConfig, encoder: Encoder, decoder: Decoder
) -> UniteObjective | BaselineObjective:
    """The run's objective by `baselines/table.py`; networks it does not train are frozen."""
    settings = config.objective
    modality = get_modality(config.modality, config.modality_config)
    if settings.partial_share and type(modality).draw_visible is Modality.draw_visible:
        raise ValueError(
            f"objective.partial_share must be 0 for {config.modality}, which cannot show a part of "
            f"its data, got {settings.partial_share}"
        )
    alike = {field.name for field in fields(UniteObjective)} & vars(settings).keys()
    unite = UniteObjective(
        encoder=encoder,
        decoder=decoder,
        modality=modality,
        flow_ramp_steps=round(settings.flow_ramp * config.planned_steps),
        **{name: getattr(settings, name) for name in alike},
    )
    objective: UniteObjective | BaselineObjective = config.kind.build(unite, settings)
    freeze(config.kind.trains, encoder, decoder)
    return objective


def freeze(trained: Sequence[str], encoder: Encoder, decoder: Decoder) -> None:
    """Freeze every network that `trained` does not name ("tokenizer", "denoiser", "decoder")."""
    tokenizer, denoiser = encoder.networks()
    networks: dict[str, nn.Module] = {
        "tokenizer": tokenizer,
        "denoiser": denoiser,
        "decoder": decoder,
    }
    kept = [networks[name] for name in trained]
    for network in networks.values():
        if not any(network is one for one in kept):  # shared weights have two names
            network.requires_grad_(False)


@dataclass(frozen=True)
class TransferReport:
    """Names of the tensors that `transfer` loaded, resized, left as initialized, or ignored."""

    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def summary(self) -> str:
        """Counts and names as one line of text."""
        text = f"{len(self.loaded)} tensors loaded"
        for label, names in (
            ("resized", self.resized),
            ("left at initialization", self.fresh),
            ("not used", self.unused),
        ):
            text += f"; {label}: {', '.join(names)}" if names else ""
        return text


@torch.no_grad()
def transfer(source: dict[str, Tensor], target: nn.Module) -> TransferReport:
    """Copy every tensor whose name and shape match; resize the class table; report the others.

    The class table keeps its first rows, up to the smaller number of classes, and its last row,
    the null class. A condition that the source has not starts almost unseen, with 2e-6 of the
    attention, so that the model computes what the source does.
    """
    loaded, resized, fresh = [], [], []
    for name, own in target.state_dict().items():
        other = source.get(name)
        if other is not None and other.shape == own.shape:
            own.copy_(other)
            loaded.append(name)
        elif other is not None and name.endswith("class_embedding.weight"):
            rows = min(len(own), len(other)) - 1
            own[:rows] = other[:rows]
            own[-1] = other[-1]
            resized.append(name)
        else:
            fresh.append(name)
            if name.endswith(".strength"):
                own.fill_(UNSEEN)
    unused = sorted(set(source) - set(loaded) - set(resized) - set(fresh))
    return TransferReport(tuple(loaded), tuple(resized), tuple(fresh), tuple(unused))
