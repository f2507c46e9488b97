"""The memory model against real tensors of a real step, and its arithmetic by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.training.tiny import tiny_config

from openunite.batch import CLASS, Batch, Given
from openunite.catalog import get_recipe
from openunite.flow.random import SlotRandom
from openunite.planning.memory import memory
from openunite.training.build import build_models, build_objective
from openunite.training.config import ModelConfig, RunConfig

DEEP = tiny_config(
    model=ModelConfig(16, 8, 64, 6, 4, 64, 4, 4, 128, 4, 2),
    modality_config={"height": 28, "width": 28, "channels": 1, "patch_size": 7},
)


def with_draws(draws: int, **settings: Any) -> RunConfig:
    """`DEEP` with k flow draws."""
    return replace(DEEP, objective=replace(DEEP.objective, flow_draws=draws, **settings))


def saved_per_sample(config: RunConfig) -> list[float]:
    """Bytes that each loss term of a real step keeps, per sample: two batches, their difference."""
    objective = build_objective(config, *build_models(config))
    totals = []
    for batch in (8, 24):
        data = torch.zeros(batch, 1, 28, 28, dtype=torch.uint8)
        slots, classes = torch.arange(batch), {CLASS: Given.of_all(torch.zeros(batch).long())}
        random = SlotRandom(0, 0, slots)
        terms = objective.terms(Batch(data, slots, conditions=classes), 0, random)
        found: list[int] = []
        while True:
            kept: dict[int, int] = {}

            def note(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                term = next(terms, None)
            if term is None:
                break
            found.append(sum(kept.values()))
            term.value.backward()
        totals.append(found)
    return [(many - few) / 16 for few, many in zip(*totals, strict=True)]


def test_what_a_sample_keeps_is_what_a_real_step_keeps() -> None:
    first, *draws = saved_per_sample(DEEP)
    assert memory(DEEP, 1).per_sample == pytest.approx(first, rel=0.1)
    assert max(draws) < first


def test_convolutions_of_the_head_are_counted() -> None:
    config = replace(DEEP, modality_config={**DEEP.modality_config, "head": "convolutional"})
    first, *_ = saved_per_sample(config)
    assert memory(config, 1).per_sample == pytest.approx(first, rel=0.1)
    assert first > 1.1 * saved_per_sample(DEEP)[0]


def test_a_draw_keeps_no_second_copy_of_its_activations() -> None:
    """Counted in registers x width of a block; another copy of anything adds 1 or more."""
    _, draw, *_ = saved_per_sample(DEEP)
    size = DEEP.model
    copies = draw / (4 * size.depth * size.num_registers * size.width)
    assert copies < 31.0  # 30.65, the in-context tokens of the later blocks among them


@pytest.mark.parametrize("draws", [1, 5])
def test_without_the_stop_gradient_all_draws_are_kept(draws: int) -> None:
    config = with_draws(draws, stop_gradient=False, draws_per_pass=2)
    (kept,) = saved_per_sample(config)
    assert memory(config, 1).per_sample == pytest.approx(kept, rel=0.1)


def test_flow_draws_need_no_memory_of_their_own() -> None:
    assert memory(with_draws(14), 32) == memory(DEEP, 32)


def test_draws_of_one_pass_are_counted_together() -> None:
    found = [memory(with_draws(50, draws_per_pass=n), 1).per_sample for n in (25, 50)]
    assert memory(DEEP, 1).per_sample < 2 * found[0] == found[1]


def test_a_pass_has_no_more_draws_than_there_are() -> None:
    config = with_draws(25, draws_per_pass=50)
    need = memory(config, 1)
    assert need == memory(with_draws(25, draws_per_pass=25), 1)
    assert need.per_sample == pytest.approx(max(saved_per_sample(config)), rel=0.1)


def test_states_by_hand() -> None:
    """Weight, gradient and EMA, one momentum for a matrix of Muon and two for the rest."""
    config = get_recipe("imagenet256_b")()
    alone = memory(config, 1)
    total = 217_642_080
    assert 4 * 4 * total < alone.states < 4.1 * 4 * total
    shared = memory(replace(config, sharding="full"), 1, world=8)
    assert shared.states == pytest.approx(alone.states / 8)
    assert shared.per_sample == alone.per_sample
    exact = memory(replace(config, precision="no"), 1)
    assert exact.per_sample > 1.4 * alone.per_sample  # but for LPIPS, whose features stay float32


def test_most_is_the_last_that_fits() -> None:
    need = memory(get_recipe("imagenet256_b")(), 1)
    most = need.most(80e9)
    assert replace(need, samples=most).peak <= 80e9 < replace(need, samples=most + 1).peak
    assert need.most(4e9) == 0
