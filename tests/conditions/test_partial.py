"""Partial draws: which draws they are, what they see, and that the others stay as they were."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from openunite.conditions.drawing import partial_draws, passes_of
from openunite.flow.random import SlotRandom
from openunite.modalities.image.visible import NUM_CHOICES, draw_parts, whole_patches
from openunite.objective import UniteObjective

Build = Callable[..., Any]


def terms(models: Any, step: int = 5, **settings: Any) -> list[tuple[float, float]]:
    """Value and weight of each term."""
    objective = UniteObjective(models.encoder, models.decoder, models.modality, **settings)
    random = SlotRandom(seed=1, step=step, slots=torch.arange(6))
    found = objective.terms(models.batch, step, random)
    return [(float(term.value.detach()), term.weight) for term in found]


@pytest.mark.parametrize("share", [0.0, 0.25, 1 / 3, 0.5, 1.0])
def test_the_stated_share_of_the_draws_is_partial(share: float) -> None:
    found = [len(partial_draws(step, 3, share)) for step in range(400)]
    assert sum(found) == pytest.approx(1200 * share, abs=1)
    assert max(found) - min(found) <= 1


def test_partial_draws_go_apart_from_the_others() -> None:
    assert list(passes_of(5, {1, 3}, 2)) == [[0, 2], [4], [1, 3]]
    assert list(passes_of(5, set(), 2)) == [[0, 1], [2, 3], [4]]


def test_draws_that_see_nothing_are_those_of_a_run_without_partial_draws(
    tiny_models: Build,
) -> None:
    models, step = tiny_models(), 1
    assert partial_draws(step, 3, 1 / 3) == {2}
    plain, mixed = terms(models, step), terms(models, step, partial_share=1 / 3)
    assert mixed[:3] == plain[:3]
    assert mixed[3] != plain[3]
    assert [weight for _, weight in mixed] == [weight for _, weight in plain]


def test_a_partial_draw_sees_patches_and_its_numbers_do_not_depend_on_the_pass(
    tiny_models: Build,
) -> None:
    models, seen = tiny_models(), []
    models.encoder.register_forward_pre_hook(lambda module, given: seen.append(given[2]))
    one_by_one = terms(models, partial_share=1.0)
    assert [evidence.visible is None for evidence in seen] == [True, False, False, False]
    assert all(evidence.observation is not None for evidence in seen)
    assert not torch.equal(seen[1].visible, seen[2].visible)
    together = terms(models, partial_share=1.0, draws_per_pass=3)
    assert torch.equal(seen[-1].visible, torch.cat([e.visible for e in seen[1:4]]))
    mean = sum(value for value, _ in one_by_one[1:]) / 3
    assert together[1][0] == pytest.approx(mean, rel=1e-5)


def test_the_target_of_a_partial_draw_is_not_reached(tiny_models: Build) -> None:
    """The flow loss trains the patches through what a partial draw sees, never through z0."""
    models = tiny_models()
    objective = UniteObjective(
        models.encoder, models.decoder, models.modality, partial_share=1.0, flow_draws=1
    )
    random = SlotRandom(seed=1, step=0, slots=torch.arange(6))
    first, flow = objective.terms(models.batch, 0, random)
    assert not first.latents.requires_grad
    (gradient,) = torch.autograd.grad(flow.value, models.encoder.embedder.projection.weight)
    assert gradient.abs().max() > 0


def test_half_of_the_parts_are_scattered_and_half_are_rectangles_of_any_size() -> None:
    rows, columns, count = 8, 6, 6000
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(count, NUM_CHOICES + rows * columns, generator=generator)
    parts = draw_parts((rows, columns), uniform)
    share = parts.float().mean(dim=1)
    assert abs(float(share.mean()) - 0.5) < 0.02
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        assert 0.1 < float(((share >= low) & (share <= low + 0.2)).float().mean()) < 0.35
    grid = parts[uniform[:, 0] >= 0.5].unflatten(1, (rows, columns))
    kept = uniform[uniform[:, 0] >= 0.5][:, 5] >= 0.5
    inside = torch.where(kept[:, None, None], grid, ~grid)
    # A rectangle is the product of the rows and the columns that it touches.
    assert torch.equal(inside, inside.any(dim=2, keepdim=True) & inside.any(dim=1, keepdim=True))
    assert 0.4 < float(kept.float().mean()) < 0.6


def test_patches_are_seen_where_all_their_pixels_are_known() -> None:
    known = torch.ones(2, 5, 8, dtype=torch.bool)
    known[0, 4, 7] = False  # in the last patch, which hangs over the edge
    known[1, 0, 0] = False
    seen = whole_patches(known, 4)
    assert seen.tolist() == [[True, True, True, False], [False, True, True, True]]
