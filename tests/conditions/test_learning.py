"""A network follows a number that decides its data, also one that joins it later."""

from typing import Any

import pytest
import torch

from openunite.analysis.condition_effect import condition_effect
from openunite.batch import Batch
from openunite.conditions.base import fit, parse
from openunite.data.conditions import ConditionedDataset, table
from openunite.flow.random import SlotRandom
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.modality import get_modality
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import GenerativeEncoder
from openunite.objective import UniteObjective
from openunite.training.build import transfer
from openunite.training.config import OptimizerConfig
from openunite.training.optim import build_optimizers

IMAGE = {"height": 4, "width": 4, "channels": 1, "patch_size": 2}
COUNT, BATCH = 512, 48


class Grays:
    """Images of one gray each, from 20 to 230."""

    sizes = None
    levels = torch.linspace(20.0, 230.0, COUNT).round()

    def __len__(self) -> int:
        return COUNT

    def batch(self, indices: list[int]) -> Batch:
        at = torch.tensor(indices)
        pixels = self.levels[at].to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
        return Batch(pixels, at)


def number() -> dict[str, Any]:
    return {"gray": fit("gray", "number", Grays.levels.tolist())}


def data() -> ConditionedDataset:
    plain = number()["gray"]
    return ConditionedDataset(
        Grays(), {"gray": table([parse("gray", plain, v) for v in Grays.levels.tolist()])}
    )


def models(conditions: dict[str, Any] | None) -> torch.nn.ModuleDict:
    torch.manual_seed(0)
    settings = {"num_context_tokens": 0, "conditions": conditions}
    encoder = GenerativeEncoder("image", IMAGE, 4, 4, 32, 2, 2, **settings)
    return torch.nn.ModuleDict(
        {"encoder": encoder, "decoder": Decoder("image", IMAGE, 4, 4, 32, 2, 2, 64)}
    )


def train(model: torch.nn.ModuleDict, source: Any, steps: int, ramp: int) -> None:
    modality = get_modality("image", IMAGE)
    objective = UniteObjective(*model.values(), modality, flow_ramp_steps=ramp)
    optimizers = build_optimizers(model, OptimizerConfig()).values()
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        batch = source.batch(torch.randint(COUNT, (BATCH,), generator=generator).tolist())
        for term in objective.terms(batch, step, SlotRandom(0, step, torch.arange(BATCH))):
            (term.weight * term.value).backward()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * min(1.0, (steps - step) / 100)
            optimizer.step()
            optimizer.zero_grad()


def effect(model: torch.nn.ModuleDict) -> float:
    return condition_effect(model["encoder"], data().batch(list(range(0, COUNT, 16))), "gray").ratio


def samples(model: torch.nn.ModuleDict, asked: Any) -> torch.Tensor:
    """Grays of 24 images."""
    pipeline = ImagePipeline(*(part.eval() for part in model.values()))
    options = {"num_inference_steps": 6, "solver": "multistep", "guidance_scale": 1.0}
    found = pipeline.generate(None, seeds=range(24), conditions={"gray": asked}, **options)
    return 255.0 * found.mean(dim=(1, 2, 3))


def follows(model: torch.nn.ModuleDict) -> float:
    """Correlation of what samples are with what was asked for."""
    asked = torch.linspace(30.0, 220.0, 24)
    return float(torch.corrcoef(torch.stack([samples(model, asked.tolist()), asked]))[0, 1])


@pytest.mark.slow
def test_samples_follow_a_number_that_is_asked_for() -> None:
    model = models(number())
    assert effect(model) < 0.05
    train(model, data(), 150, 50)
    assert effect(model) > 1.0
    assert follows(model) > 0.95
    dark, light = (samples(model, span).mean() for span in ((20, 90), (150, 230)))
    assert dark < 110 < 140 < light


@pytest.mark.slow
def test_a_condition_that_joins_a_trained_model_is_learned() -> None:
    old, model = models(None), models(number())
    train(old, Grays(), 100, 50)
    for name in ("encoder", "decoder"):
        transfer(old[name].state_dict(), model[name])
    assert effect(model) < 1e-3
    train(model, data(), 120, 0)
    assert effect(model) > 0.5
    assert follows(model) > 0.9
