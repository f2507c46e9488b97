"""Run configurations: there and back, and what is wrong is named."""

import copy
import math
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
from openunite.training.limits import LIMITS
from openunite.training.pace import Pace


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
        ("batch_size", 10**14, r"batch_size must be at most 10,000,000, got 1000+$"),
        ("data.workers", -1, r"data\.workers must be at least 0, got -1"),
        ("num_classes", 10**11, "num_classes must be at most 10,000,000"),
        ("model.width", 10**9, r"model\.width must be at most 100,000"),
        ("model.depth", 10**8, r"model\.depth must be at most 1,000"),
        ("model.num_heads", 0, r"model\.num_heads must be at least 1, got 0"),
        ("objective.flow_ramp", 1.5, r"objective\.flow_ramp must be at most 1, got 1\.5"),
        ("optimizer.adamw_learning_rate", math.nan, "adamw_learning_rate must be finite, got nan"),
        ("optimizer.muon_learning_rate", math.inf, "muon_learning_rate must be finite, got inf"),
        ("optimizer.muon_learning_rate", 3e38, "muon_learning_rate must be at most 1,000, got 3e"),
        ("optimizer.betas", [0.9, -1.0], r"optimizer\.betas must be at least 0, got -1\.0"),
        ("optimizer.clip_norm", 10**400, r"optimizer\.clip_norm must be finite, got inf"),
        ("modality_config.l1_weight", math.nan, r"modality_config\.l1_weight must be finite"),
        ("seed", 10**50, r"seed must be at most 9,223,372,036,854,775,807, got "),
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
        ("1: 2\nsteps: 3\nnull: 4\n", "a name must be text, got 1"),
        ("x" * 900 + ": 1\n", r"unknown field x{60}, expected"),
        ("steps: 1\nseed: 2\nsteps: 3\n", "'steps' is given twice"),
        ("data: {source: a, source: b}\n", "'source' is given twice"),
        ("a: &a [1]\nb: *a\n", "an alias .* is not allowed here, .* line 2"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("a: " + "[" * 400 + "]" * 400, "nested too deeply|unknown field a"),
        ("modality_config: " + "{a: " * 400 + "1" + "}" * 400, "nested too deeply|incomplete"),
        ("steps: " + "9" * 5000, "is not plain YAML: Exceeds the limit"),
        ("when: 2020-99-99\n", "is not plain YAML: month must be in"),
        ("# " + "x" * 200_000, "more than 100,000 bytes"),
    ],
)
@pytest.mark.timeout(20)
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
    if isinstance(value, float):
        return value / 2 or 0.5
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
    "objective.time_density": "uniform",
}
OTHERS = {"modality", "sampling.solver", "pace"}  # tested on their own
FIELDS = sorted(set(flatten(to_dict(get_recipe("fashion")()))) - OTHERS)


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


def test_other_plans_are_reported_and_survive_yaml(tmp_path: Path) -> None:
    old = get_recipe("fashion")()
    new = replace(old, pace=Pace(5.0, ((0, 1300), (70, old.steps))))
    assert differences(old, new) == [
        "pace.minutes: None -> 5.0",
        f"pace.plans: None -> [[0, 1300], [70, {old.steps}]]",
    ]
    save_config(new, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == new


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


def in_yaml(folder: Path, values: dict[str, Any], old: str, new: str) -> RunConfig:
    """The settings with one line of their file changed."""
    text = yaml.safe_dump(values, sort_keys=False)
    assert text.count(old) == 1
    (folder / "config.yaml").write_text(text.replace(old, new))
    return load_config(folder / "config.yaml")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("7e-3", 0.007),
        ("1e-3", 0.001),
        ("1.0e2", 100.0),
        ("1E2", 100.0),
        ("+.5e1", 5.0),
        ("5", 5.0),
    ],
)
def test_numbers_may_be_written_as_people_write_them(
    tmp_path: Path, values: dict[str, Any], written: str, value: float
) -> None:
    values["optimizer"]["clip_norm"] = 123.25
    found = in_yaml(tmp_path, values, "clip_norm: 123.25", f"clip_norm: {written}")
    assert found.optimizer.clip_norm == value


@pytest.mark.parametrize("word", ["e5", "1e", "1e-3x", "2e5e5"])
def test_text_that_only_looks_like_a_number_stays_text(
    tmp_path: Path, values: dict[str, Any], word: str
) -> None:
    values["recipe"] = "nobody"
    assert in_yaml(tmp_path, values, "recipe: nobody", f"recipe: {word}").recipe == word


def test_a_plain_no_is_the_precision_it_says(tmp_path: Path, values: dict[str, Any]) -> None:
    assert in_yaml(tmp_path, values, "precision: 'no'", "precision: no").precision == "no"


def test_a_message_about_a_large_value_is_short(values: dict[str, Any]) -> None:
    bomb: list[Any] = ["x"] * 9
    for _ in range(30):  # 9 ** 31 elements, if anybody wrote them out
        bomb = [bomb] * 9
    for name in ("seed", "sampling.solver", "optimizer.betas", "trackers"):
        with pytest.raises(ValueError, match=f"{name} must be .*got ") as raised:
            from_dict(put(copy.deepcopy(values), name, bomb))
        assert len(str(raised.value)) < 1000


def test_limits_are_of_settings_that_exist() -> None:
    assert set(LIMITS) <= set(FIELDS)
