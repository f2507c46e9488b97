"""Run configurations: there and back, and what is wrong is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from openunite.catalog import get_recipe, recipes
from openunite.training.config import (
    OPERATIONAL,
    RunConfig,
    differences,
    flatten,
    from_dict,
    load_config,
    save_config,
    to_dict,
)


@pytest.fixture
def values() -> dict[str, Any]:
    return to_dict(get_recipe("fashion")())


def put(values: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    *parents, last = name.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    place[last] = value
    return values


def drop(values: dict[str, Any], name: str) -> dict[str, Any]:
    *parents, last = name.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    del place[last]
    return values


@pytest.mark.parametrize("recipe", map(get_recipe, recipes()), ids=recipes())
def test_every_recipe_survives_dict_and_yaml(
    recipe: Callable[[], RunConfig], tmp_path: Path
) -> None:
    config = recipe()
    assert from_dict(to_dict(config)) == config
    save_config(config, tmp_path / "config.yaml")
    loaded = load_config(tmp_path / "config.yaml")
    assert loaded == config
    assert differences(loaded, config) == []


@pytest.mark.parametrize("recipe", map(get_recipe, recipes()), ids=recipes())
def test_every_recipe_knows_its_name(recipe: Callable[[], RunConfig]) -> None:
    assert recipe().recipe == recipe.__name__
    assert recipe.__doc__


def test_the_file_is_plain_yaml(tmp_path: Path) -> None:
    save_config(replace(get_recipe("fashion")(), trackers=("tensorboard",)), tmp_path / "c.yaml")
    plain = yaml.safe_load((tmp_path / "c.yaml").read_text())
    assert plain["optimizer"]["betas"] == [0.9, 0.99]
    assert plain["trackers"] == ["tensorboard"]
    assert load_config(tmp_path / "c.yaml").trackers == ("tensorboard",)


@pytest.mark.parametrize("name", ["stepz", "optimizer.learning_rate", "data.path"])
def test_an_unknown_field_is_named(values: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown field {name},"):
        from_dict(put(values, name, 1))


@pytest.mark.parametrize("name", ["steps", "data", "model.width", "data.source"])
def test_a_missing_field_is_named(values: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name.split(".")[-1]):
        from_dict(drop(values, name))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", "900"),
        ("steps", 900.0),
        ("steps", True),
        ("steps", None),
        ("recipe", 3),
        ("num_classes", "ten"),
        ("micro_batch_size", 2.5),
        ("modality_config", [1]),
        ("data", "folder"),
        ("data.workers", False),
        ("model.width", "wide"),
        ("model.decoder_input_width", 1.5),
        ("objective.flow_weight", "0.3"),
        ("objective.flow_weight", True),
        ("optimizer.betas", 0.9),
        ("optimizer.betas", ["0.9", 0.99]),
        ("sampling.solver", 4),
        ("trackers", "tensorboard"),
        ("trackers", [1]),
    ],
)
def test_a_wrong_type_is_named(values: dict[str, Any], name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be .*got "):
        from_dict(put(values, name, value))


@pytest.mark.parametrize("value", [[0.9], [0.9, 0.99, 0.999], []])
def test_a_tuple_of_the_wrong_length_is_named(values: dict[str, Any], value: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^optimizer\.betas must be .*got "):
        from_dict(put(values, "optimizer.betas", value))


def test_whole_numbers_pass_for_floats_and_none_for_optional(values: dict[str, Any]) -> None:
    config = from_dict(put(put(values, "objective.flow_weight", 1), "num_classes", None))
    assert config.objective.flow_weight == 1.0
    assert isinstance(config.objective.flow_weight, float)
    assert config.num_classes is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "steps must be at least 1, got 0"),
        ("batch_size", -1, "batch_size must be at least 1, got -1"),
        ("log_every", 0, "log_every must be at least 1"),
        ("precision", "fp16", "'no' .*or 'bf16', got 'fp16'"),
        ("objective.flow_draws", 0, "flow_draws must be at least 1, got 0"),
        ("objective.draws_per_pass", 0, "draws_per_pass must be at least 1, got 0"),
    ],
)
def test_impossible_values_are_refused(
    values: dict[str, Any], name: str, value: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(put(values, name, value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n- 2\n", "must hold a mapping of run settings, got list"),
        ("", "must hold a mapping of run settings, got NoneType"),
        ("steps: [1,\n", "is not plain YAML"),
        ("x: !!python/object/apply:os.getcwd []\n", "is not plain YAML"),
        ("stepz: 1\n", "unknown field stepz"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        load_config(path)
    assert str(path) in str(raised.value)


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        return [*map(changed, value)] or ["tensorboard"]
    return 1 if value is None else value + 1 if not isinstance(value, bool) else not value


LITERAL = {
    "data.max_e_above_hull": 0.08,
    "precision": "bf16",
    "sharding": "full",
    "sampling.guidance_interval": [0.2, 0.9],
    "sampling.options.eta": 0.5,
    "init_from": "runs/other",
    "model.latent_norm": "rmsnorm",
    "model.tokenizer": "separate",
    "objective.stage": "autoencoder",
}
FIELDS = sorted(set(flatten(to_dict(get_recipe("fashion")()))) - {"modality", "sampling.solver"})


@pytest.mark.parametrize("name", FIELDS)
def test_each_changed_field_is_reported_unless_it_is_operational(
    values: dict[str, Any], name: str
) -> None:
    old = from_dict(values)
    before = flatten(values)[name]
    after = LITERAL.get(name, changed(before))
    new = from_dict(put(to_dict(old), name, after))
    expected = [] if name in OPERATIONAL else [f"{name}: {before!r} -> {after!r}"]
    assert differences(old, new) == expected


def test_another_solver_is_reported_with_its_options(values: dict[str, Any]) -> None:
    old = from_dict(values)
    plain = put(put(to_dict(old), "sampling.solver", "euler"), "sampling.options", {})
    assert differences(old, from_dict(plain)) == [
        "sampling.options.eta: 1.0 -> None",
        "sampling.solver: 'sde' -> 'euler'",
    ]


def test_operational_fields_exist() -> None:
    assert set(OPERATIONAL) <= set(FIELDS)


def test_an_added_and_a_removed_setting_of_the_modality_are_reported(
    values: dict[str, Any],
) -> None:
    old = from_dict(values)
    new = from_dict(put(to_dict(old), "modality_config.patch_positions", "zero"))
    assert differences(old, new) == ["modality_config.patch_positions: None -> 'zero'"]
    assert differences(new, old) == ["modality_config.patch_positions: 'zero' -> None"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective.stage": "denoiser"}, "stage denoiser needs tokenizer separate/posterior with"),
        (
            {"objective.stage": "denoiser", "model.tokenizer": "separate"},
            "stage denoiser needs init_from, the run of the autoencoder; got none",
        ),
        ({"model.tokenizer": "posterior"}, "stage joint needs .*; got tokenizer posterior with"),
        (
            {"objective.stage": "autoencoder", "model.tokenizer": "posterior"},
            "tokenizer posterior needs latent_norm none, got 'layernorm'",
        ),
        (
            {"objective.stage": "autoencoder", "objective.stop_gradient": False},
            "needs .* stop_gradient true.*; got tokenizer shared with stop_gradient false",
        ),
    ],
)
def test_settings_of_baselines_that_do_not_fit_are_refused(
    values: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    for name, value in changes.items():
        put(values, name, value)
    with pytest.raises(ValueError, match=message):
        from_dict(values)


def test_a_file_from_before_the_baselines_is_the_same_run(values: dict[str, Any]) -> None:
    old = to_dict(from_dict(values))
    for name in ("latent_norm", "block_norm", "tokenizer"):
        del old["model"][name]
    for name in ("stop_gradient", "stage", "kl_weight"):
        del old["objective"][name]
    assert differences(from_dict(old), from_dict(values)) == []
