"""From plain values and from text to dataclasses of settings, and what the errors say."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import pytest
from tests.verbs.asking import settings

from openunite.catalog import get_spec
from openunite.modalities.image.tokens import ImageSettings
from openunite.settings import assign, build, convert, expected, missing_fields, parse
from openunite.training.config import RunConfig, from_dict, to_dict


@dataclass(frozen=True)
class Inner:
    """A section."""

    depth: int = 2
    share: float = 0.5
    kind: Literal["flat", "steep"] = "flat"


@dataclass(frozen=True)
class Outer:
    """One field of every kind."""

    name: str
    steps: int
    limit: int | None = None
    loud: bool = False
    pair: tuple[float, float] = (0.0, 1.0)
    words: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)
    free: dict[str, Any] = field(default_factory=dict)
    scales: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Free:
    """What `Outer.free` may hold."""

    elements: tuple[int, ...]
    radius: float = 1.0
    flip: bool = False


START, SCHEMAS = Outer("a", 1), {"free": Free}


def test_a_mapping_becomes_nested_dataclasses() -> None:
    values = {"name": "b", "steps": 3, "pair": [0, 1], "inner": {"share": 1}, "words": ["x"]}
    found = build(Outer, values)
    assert found == Outer("b", 3, words=("x",), inner=Inner(share=1.0))
    assert [type(value) for value in (*found.pair, found.inner.share)] == [float] * 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "b"}, "fields are missing: steps"),
        ({}, "fields are missing: name, steps"),
        ({"name": "b", "steps": 1, "step": 2}, r"unknown field step, .*; the nearest is steps"),
        (
            {"name": "b", "steps": 1, "inner": {"dept": 2}},
            r"unknown field inner\.dept, expected some of depth, kind, share; the nearest is depth",
        ),
        ({"name": "b", "steps": 1, 7: 2}, "unknown field 7"),
        ({"name": "b", "steps": 1.5}, "steps must be a whole number, got 1.5"),
        ({"name": "b", "steps": True}, "steps must be a whole number, got True"),
        ({"name": "b", "steps": "1"}, "steps must be a whole number, got '1'"),
        ({"name": 3, "steps": 1}, "name must be text, got 3"),
        ({"name": "b", "steps": 1, "loud": 1}, "loud must be true or false, got 1"),
        ({"name": "b", "steps": 1, "limit": 0.5}, "limit must be a whole number, got 0.5"),
        ({"name": "b", "steps": 1, "pair": [1]}, r"pair must be 2 values, got \[1\]"),
        ({"name": "b", "steps": 1, "words": "x"}, "words must be tuple, got 'x'"),
        ({"name": "b", "steps": 1, "words": [1]}, "words must be text, got 1"),
        ({"name": "b", "steps": 1, "inner": 4}, "inner must be Inner, got 4"),
        (
            {"name": "b", "steps": 1, "inner": {"kind": "round"}},
            r"inner\.kind must be one of flat, steep, got 'round'",
        ),
        ({"name": "b", "steps": 1, "inner": {"share": "x"}}, r"inner\.share must be a number"),
    ],
)
def test_a_mapping_that_does_not_fit_is_one_sentence(values: dict[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(Outer, values)


def test_the_words_for_a_field_and_its_place_are_chosen() -> None:
    with pytest.raises(ValueError, match=r"unknown image setting data\.x, "):
        build(Inner, {"x": 1}, "data.", "image setting")


def test_fields_without_a_default_are_counted_as_missing() -> None:
    assert missing_fields(Outer, {"steps": 1, "inner": {}}) == ["name"]
    assert missing_fields(Inner, {}) == []


def test_the_nearest_name_is_named_where_there_are_names() -> None:
    assert expected("hight", {"height": 1, "width": 2}) == (
        "expected some of height, width; the nearest is height"
    )
    assert expected("x", {}) == "expected some of "


@pytest.mark.parametrize(
    ("hint", "value", "found"),
    [
        (float, 3, 3.0),
        (int | None, None, None),
        (int | None, 3, 3),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[float, float], (1, 2), (1.0, 2.0)),
        (Literal["a", "b"], "b", "b"),
        (Any, [1, "x"], [1, "x"]),
        (dict[str, Any], {"x": 1}, {"x": 1}),
    ],
)
def test_values_are_converted_as_the_annotation_says(hint: Any, value: Any, found: Any) -> None:
    result = convert(hint, value, "x")
    assert (result, type(result)) == (found, type(found))


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("name=two words", {"name": "two words"}),
        ("name=a=b", {"name": "a=b"}),
        (" steps = 7 ", {"steps": 7}),
        ("limit=4", {"limit": 4}),
        ("limit=none", {"limit": None}),
        ("limit=null", {"limit": None}),
        ("loud=yes", {"loud": True}),
        ("loud=True", {"loud": True}),
        ("loud=off", {"loud": False}),
        ("pair=0.1, 2", {"pair": (0.1, 2.0)}),
        ("words=x,y", {"words": ("x", "y")}),
        ("words=", {"words": ()}),
        ("inner.depth=5", {"inner": Inner(depth=5)}),
        ("inner.share=7e-3", {"inner": Inner(share=0.007)}),
        ("inner.kind=steep", {"inner": Inner(kind="steep")}),
        ("free.radius=2", {"free": {"radius": 2.0}}),
        ("free.elements=1,8", {"free": {"elements": (1, 8)}}),
        ("free.flip=on", {"free": {"flip": True}}),
        ("scales.eta=1", {"scales": {"eta": 1.0}}),  # without a schema a mapping holds numbers
    ],
)
def test_an_assignment_reads_its_text_as_the_field_says(text: str, change: dict[str, Any]) -> None:
    found = assign(START, [text], SCHEMAS)
    assert found == Outer(**{"name": "a", "steps": 1} | change)
    for name in change:
        value, wanted = getattr(found, name), change[name]
        assert type(value) is type(wanted)
        assert repr(value) == repr(wanted)


def test_of_assignments_to_one_field_the_last_counts_and_the_original_stays() -> None:
    texts = ["inner.depth=5", "inner.share=1", "steps=3", "steps=4", "free.radius=2", "free.flip=1"]
    with pytest.raises(ValueError, match=r"free\.flip must be true or false, got '1'"):
        assign(START, texts, SCHEMAS)
    found = assign(START, texts[:-1], SCHEMAS)
    assert (found.inner, found.steps) == (Inner(5, 1.0), 4)
    assert Outer("a", 1) == START


def test_assignments_take_effect_together() -> None:
    """Two of these settings alone would be impossible, whichever comes first."""
    texts = ("model.tokenizer=posterior", "objective.stage=autoencoder", "model.latent_norm=none")
    for first in range(3):
        found = settings("fashion", set=texts[first:] + texts[:first])
        assert found.kind.stage == "autoencoder"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "expected section.field=value, got 'steps'"),
        ("=3", "expected section.field=value, got '=3'"),
        ("stepz=3", r"unknown field stepz, .*the nearest is steps"),
        ("inner.deep=3", r"unknown field inner\.deep, .*the nearest is depth"),
        ("free.radios=3", r"unknown field free\.radios, .*the nearest is radius"),
        ("inner=3", r"inner is a section: name one of its fields, inner\.FIELD=value"),
        ("free=3", r"free is a section"),
        ("steps.deep=3", "steps is no section: it has no field deep"),
        ("inner.depth.more=3", r"inner\.depth is no section: it has no field more"),
        ("free.radius.more=3", r"free is no section: it has no field radius\.more"),
        ("steps=1.5", "steps must be a whole number, got '1.5'"),
        ("steps=", "steps must be a whole number, got ''"),
        ("steps=none", "steps must be a whole number, got 'none'"),
        ("loud=maybe", "loud must be true or false, got 'maybe'"),
        ("pair=1", r"pair must be 2 values, got"),
        ("pair=a,b", "pair must be a number, got 'a'"),
        ("inner.kind=round", r"inner\.kind must be one of flat, steep, got 'round'"),
        ("scales.eta=x", r"scales\.eta must be a number, got 'x'"),
    ],
)
def test_an_assignment_that_does_not_fit_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assign(START, [text], SCHEMAS)


def test_numbers_that_are_not_finite_are_read_as_such() -> None:
    assert parse(float, "inf", "x") == math.inf


# ---- the settings of a run ------------------------------------------------------------------


def assignable(config: RunConfig) -> list[tuple[str, str]]:
    """Every field of a run and a text that stands for the value that it has."""
    found = []

    def words(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    for name, value in to_dict(config).items():
        if isinstance(value, dict):
            found += [
                (f"{name}.{key}", words(item)) for key, item in value.items() if key != "options"
            ]
        else:
            found.append((name, words(value)))
    return found


@pytest.mark.parametrize("recipe", ["fashion", "molecules", "crystals", "joint"])
def test_every_field_of_a_run_can_be_assigned_the_value_it_has(recipe: str) -> None:
    data = None if recipe == "fashion" else "some.xyz"
    config = settings(recipe, data)
    schemas = {"modality_config": get_spec(config.modality).load("modality").Settings}
    fields_of_run = assignable(config)
    assert len(fields_of_run) > 50
    for name, text in fields_of_run:
        assert assign(config, [f"{name}={text}"], schemas) == config, name


def test_settings_of_the_modality_have_the_types_that_it_declares() -> None:
    texts = ("modality_config.flip=no", "modality_config.l1_weight=2", "modality_config.channels=3")
    config = settings("fashion", set=texts)
    found = config.modality_config
    assert (found["flip"], found["l1_weight"], found["channels"]) == (False, 2.0, 3)
    assert type(found["l1_weight"]) is float
    assert {f.name for f in fields(ImageSettings)} >= found.keys()
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modality_config.flop=yes", r"unknown field modality_config\.flop, .*nearest is flip"),
        ("modality_config.flip=3", r"modality_config\.flip must be true or false, got '3'"),
        ("modality_config.patch_size=60", "patch_size must lie between"),
        ("model.depht=3", r"unknown field model\.depht, .*the nearest is depth"),
        ("sampling.options.eta=x", r"sampling\.options\.eta must be a number, got 'x'"),
        ("sampling.options.eta=2", r"eta must"),
        ("sampling.options.beta=1", r"knows no option 'beta'"),
        ("steps=0", "steps must be at least 1, got 0"),
    ],
)
def test_an_assignment_that_no_run_can_have_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings("fashion", set=(text,))


def test_options_of_the_solver_are_assigned_by_name() -> None:
    texts = ("sampling.solver=sde", "sampling.options.eta=0.5", "sampling.options.temperature=0.9")
    config = settings("fashion", set=texts)
    assert (config.sampling.solver, config.sampling.option("eta")) == ("sde", 0.5)
    assert config.sampling.options == {"eta": 0.5, "temperature": 0.9}
    assert from_dict(to_dict(config)).sampling == config.sampling
