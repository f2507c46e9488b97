"""Conditions in the network: where their tokens stand, who sees them, and what they leave alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.conftest import perturb

from openunite.batch import CLASS, Evidence, Given
from openunite.conditions.base import fit, parse
from openunite.models.generative_encoder import GenerativeEncoder
from openunite.training.build import transfer
from openunite.training.optim import partition

Build = Callable[..., Any]
PLAIN = {
    "gap": fit("gap", "number", [1.0, 2.0, 3.5, 7.0]),
    "formula": fit("formula", "composition", ["LiFePO4", "Ca(OH)2", "NaCl"]),
    "tag": fit("tag", "category", ["a", "b", ("a", "b"), "c"]),
}
ASKED = {"gap": (2.0, 3.0), "formula": "NaCl", "tag": ("a", "c")}


def encoder_of(conditions: dict[str, Any] | None = None, **changes: Any) -> GenerativeEncoder:
    """Width 32, three blocks, four registers; off its initialization."""
    settings = {"num_classes": 5, "num_context_tokens": 2, "context_start": 1} | changes
    image = {"height": 8, "width": 8, "channels": 1, "patch_size": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GenerativeEncoder("image", image, 4, 6, 32, 3, 2, **settings, conditions=conditions)
    perturb(model)
    return model


def given(count: int = 3, **asked: Any) -> Evidence:
    """The same values for every sample."""
    rows = {n: torch.tensor([parse(n, PLAIN[n], v)] * count) for n, v in (asked or ASKED).items()}
    return Evidence({name: Given.of_all(values) for name, values in rows.items()})


def point(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    z = torch.randn(count, 4, 6, generator=generator)
    return z, torch.linspace(0.1, 0.9, count)


@pytest.mark.parametrize("context", [0, 2])
def test_every_condition_changes_the_prediction(context: int) -> None:
    model = encoder_of(PLAIN, num_context_tokens=context)
    nothing = model(*point())
    for name, value in ASKED.items():
        assert (model(*point(), given(**{name: value})) - nothing).abs().max() > 0.01


def test_values_make_a_difference() -> None:
    model = encoder_of(PLAIN)
    for name, values in {
        "gap": (1.5, 6.0, (1.5, 6.0)),
        "formula": ("NaCl", "LiCl", "NaCl2"),
        "tag": ("a", "b", ("a", "b")),
    }.items():
        found = [model(*point(), given(**{name: value})) for value in values]
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert (found[one] - found[other]).abs().max() > 1e-3, (name, one, other)


def test_a_multiple_of_a_formula_is_the_same_composition() -> None:
    model = encoder_of(PLAIN)
    one, four = (model(*point(), given(formula=text)) for text in ("LiFePO4", "Li4Fe4P4O16"))
    torch.testing.assert_close(one, four, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("context", [0, 2])
def test_what_is_not_known_is_as_if_nobody_had_it(context: int) -> None:
    model = encoder_of(PLAIN, num_context_tokens=context)
    unknown = given().drop(torch.tensor([True, False, True]))
    some, none, whole = (model(*point(), e) for e in (unknown, Evidence(), given()))
    torch.testing.assert_close(some[[0, 2]], none[[0, 2]], rtol=0, atol=3e-6)
    torch.testing.assert_close(some[1], whole[1], rtol=0, atol=3e-6)


def test_conditions_leave_the_class_and_the_observation_alone() -> None:
    """All three kinds of evidence act together, and padding stays padding."""
    model, (z, t) = encoder_of(PLAIN), point()
    classes = {CLASS: Given.of_all(torch.tensor([0, 1, 2]))}
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    everything = Evidence({**given().conditions, **classes}, images)
    found = model(z, t, everything)
    for less in (
        everything.without("gap"),
        everything.without(CLASS),
        Evidence(observation=images),
    ):
        assert (model(z, t, less) - found).abs().max() > 0.01
    mask = torch.tensor([[True] * 4, [True, True, True, False], [True, False, False, False]])
    moved = torch.where(mask[:, :, None], z, 9.0)
    masked, again = (model(x, t, given(), mask)[mask] for x in (z, moved))
    torch.testing.assert_close(masked, again, rtol=0, atol=1e-6)


def test_a_hidden_part_of_the_observation_is_not_seen() -> None:
    model, (z, t) = encoder_of(), point()
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    changed = images.clone()
    changed[:, :, :4, :4] = 0.0  # the first patch
    visible = torch.ones(3, 4, dtype=torch.bool)
    whole = model(z, t, Evidence(observation=images))
    torch.testing.assert_close(
        model(z, t, Evidence(observation=images, visible=visible)), whole, rtol=0, atol=1e-6
    )
    visible[:, 0] = False
    one, other = (model(z, t, Evidence(observation=x, visible=visible)) for x in (images, changed))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    assert (one - whole).abs().max() > 1e-3
    hidden = Evidence(observation=images, visible=torch.zeros_like(visible))
    torch.testing.assert_close(model(z, t, hidden), model(z, t), rtol=0, atol=3e-6)


def test_a_model_goes_on_as_before_when_conditions_join_it() -> None:
    old, new = encoder_of(), encoder_of(PLAIN)
    report = transfer(old.state_dict(), new)
    assert all(name.startswith("condition_tokens.") for name in report.fresh)
    assert not report.unused
    for name, value in ASKED.items():
        asked = given(**{name: value})
        torch.testing.assert_close(new(*point(), asked), old(*point()), rtol=0, atol=1e-4)
    assert torch.equal(new(*point()), old(*point()))
    again = encoder_of(PLAIN)
    assert not transfer(new.state_dict(), again).fresh
    assert torch.equal(again(*point(), given()), new(*point(), given()))


def test_every_parameter_of_a_condition_has_an_optimizer_and_a_gradient() -> None:
    model = encoder_of(PLAIN)
    groups = partition(torch.nn.ModuleDict({"encoder": model}))
    ours = {n for n, _ in groups["adamw"] if "condition_tokens." in n}
    assert len(ours) == 5 + 6 + 4
    model(*point(), given()).square().mean().backward()
    missing = [n for n, p in model.condition_tokens.named_parameters() if p.grad is None]
    assert missing == []
    for condition in model.condition_tokens.values():
        assert condition.strength.grad.abs() > 0


def test_an_unknown_condition_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown condition 'gpa', .* the nearest is gap"):
        encoder_of(PLAIN)(*point(), Evidence({"gpa": Given.of_all(torch.zeros(3, 2))}))
