"""examples/toy.py stays equal to the library."""

import importlib.util
from pathlib import Path

import torch

from openunite import UniteObjective
from openunite.batch import CLASS, Batch, Given
from openunite.flow.random import SlotRandom
from openunite.modality import get_modality

TOY = Path(__file__).parents[1] / "examples" / "toy.py"


def test_the_toy_computes_the_objective() -> None:
    spec = importlib.util.spec_from_file_location("toy", TOY)
    assert spec is not None
    assert spec.loader is not None
    toy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(toy)
    encoder, decoder = toy.build()
    with torch.no_grad():
        for model in (encoder, decoder):
            for parameter in model.parameters():
                parameter.add_(0.05)
    objective = UniteObjective(
        encoder,
        decoder,
        get_modality("image", toy.IMAGE),
        flow_draws=toy.DRAWS,
        flow_weight=toy.WEIGHT,
        flow_ramp_steps=round(0.3 * toy.STEPS),
    )
    pixels = torch.randint(0, 256, (6, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    classes = {CLASS: Given.of_all(torch.arange(6))}
    batch = Batch(pixels.to(torch.uint8), torch.arange(6), conditions=classes)
    random = SlotRandom(0, 70, torch.arange(6))
    ours = sum(term.weight * term.value for term in objective.terms(batch, 70, random))
    theirs = toy.losses(encoder, decoder, pixels / 255.0, torch.arange(6), 70, random)
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)
