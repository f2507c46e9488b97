"""The table of objectives: each row trains what it says, and other settings are refused."""

from dataclasses import replace

import pytest
from tests.conftest import perturb
from tests.test_objective import STEP, slots
from tests.training.tiny import TinyImages, tiny_config

from openunite.baselines.table import OBJECTIVES, ObjectiveKind, find_objective
from openunite.training.build import build_models, build_objective
from openunite.training.config import RunConfig

ROWS = [(row, tokenizer) for row in OBJECTIVES for tokenizer in row.tokenizers]
IDS = [f"{row.stage}-{tokenizer}-{row.stop_gradient}" for row, tokenizer in ROWS]


def config_of(row: ObjectiveKind, tokenizer: str) -> RunConfig:
    config = tiny_config()
    norm = "none" if tokenizer == "posterior" else "layernorm"
    return replace(
        config,
        model=replace(config.model, tokenizer=tokenizer, latent_norm=norm),
        objective=replace(
            config.objective, stage=row.stage, stop_gradient=row.stop_gradient, flow_ramp=0.0
        ),
        init_from="elsewhere" if row.origin else None,
    )


@pytest.mark.parametrize(("row", "tokenizer"), ROWS, ids=IDS)
def test_the_networks_that_learn_are_those_of_the_row(row: ObjectiveKind, tokenizer: str) -> None:
    config = config_of(row, tokenizer)
    assert config.kind is row
    models = build_models(config)
    for model in models:
        perturb(model)
    objective = build_objective(config, *models)
    terms = list(objective.terms(TinyImages().batch([0, 1, 2, 3, 4, 5]), STEP, slots()))
    for term in terms:
        (term.value * term.weight).backward()
    first, second = models[0].networks()
    networks = {"tokenizer": first, "denoiser": second, "decoder": models[1]}
    learned = {
        name
        for name, network in networks.items()
        if any(p.grad is not None and bool(p.grad.any()) for p in network.parameters())
    }
    shared = {"tokenizer", "denoiser"} if first is second and "tokenizer" in learned else set()
    assert learned == set(row.trains) | shared
    frozen = {n for n, m in networks.items() if not any(p.requires_grad for p in m.parameters())}
    assert frozen == set(networks) - learned
    if row.shares_graph:
        assert [term.name for term in terms] == ["total"]
    assert row.decodes_first == (
        len(terms) > 1 and terms[0].done is models[1] and row.stage == "joint"
    )


@pytest.mark.parametrize(
    ("stage", "tokenizer", "stop_gradient", "message"),
    [
        ("joint", "posterior", True, "stage joint needs tokenizer shared with stop_gradient true"),
        ("denoiser", "shared", True, "needs tokenizer separate/posterior with stop_gradient true"),
        ("decoder", "shared", False, "got tokenizer shared with stop_gradient false"),
    ],
)
def test_what_is_in_no_row_is_refused_with_what_there_is(
    stage: str, tokenizer: str, stop_gradient: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        find_objective(stage, tokenizer, stop_gradient=stop_gradient)


def test_no_settings_have_two_rows() -> None:
    keys = [(row.stage, tokenizer, row.stop_gradient) for row, tokenizer in ROWS]
    assert len(set(keys)) == len(keys)
