"""Conditions of a run: what is asked for, what follows from the data, training and resuming."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.training.test_resume import final_tensors, rows_without_clock, stop
from tests.training.tiny import TinyImages, tiny_config
from torch import Tensor

from openunite.analysis.condition_effect import condition_effect
from openunite.training.build import build_models, build_objective
from openunite.training.config import RunConfig, load_config, save_config
from openunite.training.trainer import Trainer
from openunite.verbs.conditions import (
    Columns,
    check_conditions,
    describe_columns,
    describe_conditions,
    fingerprint_with,
    read_condition,
    resolve_conditions,
    say_effects,
    with_conditions,
)
from openunite.verbs.sample import read_asked


def brightness(data: TinyImages) -> Tensor:
    return data.images.float().mean(dim=(1, 2, 3))


def task() -> Any:
    """A task whose data have a number, one of them unknown, a text and a constant."""

    def columns(data: TinyImages) -> dict[str, Any]:
        light = brightness(data).tolist()
        return {
            "light": lambda: [None, *light[1:]],
            "shade": lambda: ["dark" if x < 70 else "bright" for x in light],
            "fixed": lambda: [1.0] * len(data),
        }

    return SimpleNamespace(columns=columns, things="images")


def resolved(**conditions: Any) -> RunConfig:
    asked = conditions or {"light": {}, "shade": {"kind": "category"}}
    return resolve_conditions(tiny_config(conditions=asked), Columns(task(), TinyImages()))


def test_a_column_is_computed_once_and_only_if_a_condition_needs_it() -> None:
    made: list[str] = []

    def column(name: str) -> Any:
        return lambda: made.append(name) or ["a", "b"] * 32

    own = SimpleNamespace(
        columns=lambda data: {name: column(name) for name in ("kind", "other")}, things="images"
    )
    columns = Columns(own, TinyImages())
    config = resolve_conditions(tiny_config(conditions={"kind": {}}), columns)
    with_conditions(TinyImages(), config, columns)
    assert made == ["kind"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gap", ("gap", {})),
        ("gap=number", ("gap", {"kind": "number"})),
        ("gap:band gap", ("gap", {"column": "band gap"})),
        ("gap=number:band_gap", ("gap", {"kind": "number", "column": "band_gap"})),
        ("it=static:v.txt", ("it", {"kind": "static", "table": "v.txt"})),
        ("it=hf:a/b:text", ("it", {"kind": "hf", "encoder": "a/b", "column": "text"})),
        ("it=hf", ("it", {"kind": "hf"})),
    ],
)
def test_names_kinds_and_columns_are_read(text: str, expected: tuple[str, Any]) -> None:
    assert read_condition(text) == expected


def test_values_are_read() -> None:
    assert read_asked("gap = 4..5") == ("gap", "4..5")
    assert read_asked("caption=red, blue = 3") == ("caption", "red, blue = 3")
    for text in ("gap", "gap=", "=4"):
        with pytest.raises(ValueError, match="expected NAME=VALUE"):
            read_asked(text)
    with pytest.raises(ValueError, match="expected NAME, NAME=KIND or NAME=KIND:COLUMN"):
        read_condition("=number")


def test_kinds_and_settings_follow_from_the_data(tmp_path: Path) -> None:
    config = resolved()
    light = config.conditions["light"]
    assert (light["kind"], light["column"]) == ("number", "light")
    assert light["mean"] == pytest.approx(float(brightness(TinyImages())[1:].mean()), rel=1e-5)
    assert config.conditions["shade"]["names"] == ["bright", "dark"]
    save_config(config, tmp_path / "config.yaml")
    again = load_config(tmp_path / "config.yaml")
    assert again == config
    assert resolve_conditions(again, Columns(task(), TinyImages())) == config
    lines = describe_conditions(config)
    assert lines[1] == "condition shade: category, one of bright, dark, such as bright"
    assert "follow from the data" in describe_conditions(tiny_config(conditions={"a": {}}))[0]


def test_columns_are_listed_with_kind_counts_and_missing_cells() -> None:
    found = {
        "gap": lambda: [None, 1.0, 2.5, 2.5],
        "tag": lambda: ["a", "", "a", ("a", "b")],
        "made": lambda: [{"a": []}, None, None, None],
    }
    own: Any = SimpleNamespace(columns=lambda data: found, things="images")
    listed = Columns(own, TinyImages()).listed()
    assert listed["gap"] == {"kind": "number", "known": 3, "missing": 1, "example": "1.0"}
    assert (listed["tag"]["kind"], listed["tag"]["missing"]) == ("category", 1)
    assert describe_columns(listed) == [
        "column gap: number, 3 values, 1 missing, such as 1.0",
        "column tag: category, 3 values, 1 missing, such as a",
        "column made: of no kind that could be guessed, 1 values, 3 missing, such as {'a': []}",
    ]


def test_the_fingerprint_of_a_run_covers_the_columns_that_it_uses() -> None:
    columns = Columns(task(), TinyImages())
    used = resolved(light={})
    assert fingerprint_with("abc", tiny_config(), columns) == "abc"
    first = fingerprint_with("abc", used, columns)
    assert first == fingerprint_with("abc", used, columns) != "abc"
    other: Any = SimpleNamespace(columns=lambda data: {"light": lambda: [1.0] * 32}, things="")
    assert fingerprint_with("abc", used, Columns(other, TinyImages())) != first


def test_a_condition_can_build_on_a_file(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("dark 1 2\nbright 2 3\n")
    given = {"kind": "static", "table": str(tmp_path / "vectors.txt")}
    assert resolved(shade=given).conditions["shade"]["dim"] == 2
    with pytest.raises(ValueError, match="condition shade: kind hf needs its encoder: shade=hf:P"):
        resolved(shade={"kind": "hf"})


def test_settings_that_are_given_are_kept() -> None:
    config = resolved(dark={"kind": "number", "column": "light", "low": -5.0})
    assert config.conditions["dark"]["low"] == -5.0
    assert config.conditions["dark"]["high"] > 100.0


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"lihgt": {}}, "no column 'lihgt', expected some of fixed, light, shade; .* is light"),
        ({"fixed": {}}, "condition fixed: all its values are 1"),
        ({"light": {"kind": "numbr"}}, "expected one of the conditions number"),
        ({"shade": {"kind": "number"}}, "condition shade: expected a finite number"),
        ({"light": {"men": 1.0}}, "unknown setting men"),
    ],
)
def test_what_cannot_be_a_condition_is_named(conditions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolved(**conditions)


def test_weights_are_not_taken_for_a_condition_that_is_read_otherwise() -> None:
    config = resolved()
    same = {name: {**c} for name, c in config.conditions.items()}
    check_conditions(config, same, "there")
    check_conditions(config, {}, "there")
    same["light"]["mean"] = 0.0
    with pytest.raises(ValueError, match="condition light has another mean in there"):
        check_conditions(config, same, "there")


def trainer(folder: Path, preview: Any = None, **changes: Any) -> Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    config = replace(resolved(), **changes)
    config = replace(config, objective=replace(config.objective, partial_share=0.5))
    objective = build_objective(config, *build_models(config))
    data = with_conditions(TinyImages(), config, Columns(task(), TinyImages()))
    return Trainer(objective, data, config, folder, preview)


def test_a_run_with_conditions_resumes_bit_for_bit(tmp_path: Path) -> None:
    """Partial draws, too: what is shown is a function of seed, step, slot and draw."""
    trainer(tmp_path / "whole", steps=12).fit()
    trainer(tmp_path / "parts", stop, steps=12, preview_every=5).fit()
    trainer(tmp_path / "parts", steps=12).fit()
    assert rows_without_clock(tmp_path / "whole") == rows_without_clock(tmp_path / "parts")
    one, two = final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "parts")
    assert one.keys() == two.keys()
    assert any("condition_tokens.light.mlp_in" in name for name in one)
    assert [n for n in one if not torch.equal(one[n], two[n])] == []


def test_accumulation_does_not_change_what_is_shown(tmp_path: Path) -> None:
    rows = []
    for size in (16, 8):
        trainer(tmp_path / str(size), steps=3, micro_batch_size=size).fit()
        rows.append(rows_without_clock(tmp_path / str(size)))
    for one, other in zip(*rows, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_a_network_that_was_not_trained_is_said_to_ignore_its_conditions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, steps=1)
    encoder = run.objective.encoder
    from openunite.progress import showing

    with showing():
        say_effects(encoder, run.dataset)
        say_effects(encoder, TinyImages())
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2
    assert all("the network ignores it: train longer" in line for line in lines)


def test_the_effect_of_a_condition_is_measured_against_other_noise(tmp_path: Path) -> None:
    run = trainer(tmp_path, steps=1)
    encoder = run.objective.encoder
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    batch = run.dataset.batch(list(range(32)))
    effect = condition_effect(encoder, batch, "light")
    assert effect.ratio == pytest.approx(effect.by_value / effect.by_noise)
    assert effect.by_value > 0.0
    same = replace(batch, conditions={"light": batch.conditions["light"].rows(slice(1, 2))})
    with pytest.raises(ValueError, match="at least 2 samples"):
        condition_effect(encoder, same, "light")
