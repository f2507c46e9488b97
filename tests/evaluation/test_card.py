"""The protocol card exposes a wrong protocol, and survives a file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.evaluation.cards import CARD, changed

from openunite.evaluation.card import (
    ProtocolCard,
    class_counts,
    differences,
    find_warnings,
    load_card,
    software,
)
from openunite.evaluation.measured import Measured
from openunite.evaluation.sections import PartSection


def test_a_card_survives_a_file(tmp_path: Path) -> None:
    card = replace(CARD, reconstruction=PartSection("test", 7), warnings=("take care",))
    card.save(tmp_path / "card.json")
    assert load_card(tmp_path / "card.json") == card
    assert differences(card, load_card(tmp_path / "card.json")) == []


@pytest.mark.parametrize(
    ("section", "name", "value", "words"),
    [
        ("reference", "split", "train", "reference.split: test -> train"),
        ("extractor", "checksum", "cc", "extractor.checksum: aa -> cc"),
        ("samples", "class_counts", (991,) + (1,) * 9, "samples.class_counts: 10 classes, 100 ea"),
        ("samples", "first_seed", 5, "samples.first_seed: 0 -> 5"),
        ("guidance", "interval", (0.0, 1.0), "guidance.interval: [0.1, 1.0] -> [0.0, 1.0]"),
        ("sampling", "steps", None, "sampling.steps: 25 -> None"),
        ("sampling", "batch_size", 64, "sampling.batch_size: None -> 64"),
    ],
)
def test_differences_name_the_field(section: str, name: str, value: object, words: str) -> None:
    (found,) = differences(CARD, changed(section, **{name: value}))
    assert found.startswith(words)


def test_a_sweep_that_was_run_is_no_setting() -> None:
    assert differences(CARD, changed("guidance", swept_on="sweep")) == []


def test_a_section_that_only_one_card_has_is_a_difference() -> None:
    other = replace(CARD, reconstruction=PartSection("test", 9), metric_settings={"kid": "seed 1"})
    assert differences(CARD, other) == [
        "reconstruction.split: None -> test",
        "reconstruction.count: None -> 9",
        "metric_settings.kid: None -> seed 1",
    ]


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_models_differ_by_the_weights_of_each_part(part: str) -> None:
    other = changed("model", **{part: "0" * 32})
    (found,) = differences(CARD, other, ("model",))
    assert found.startswith(f"model.{part}: ")
    assert not CARD.model.has_weights_of(other.model)
    assert differences(CARD, other) == []  # two models under one protocol can be compared
    renamed = changed("model", source="elsewhere")
    assert differences(CARD, renamed, ("model",)) == []
    assert CARD.model.has_weights_of(renamed.model)


def test_a_sound_protocol_has_no_warnings() -> None:
    assert find_warnings(CARD) == ()
    # 1,003 samples of ten classes in turn
    almost = changed("samples", count=1003, class_counts=(101,) * 3 + (100,) * 7)
    assert find_warnings(almost) == ()


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (changed("samples", class_counts=(550,) + (50,) * 9), ["not balanced", "differ by 45.0%"]),
        (changed("reference", class_counts=(190, 10) * 5), ["differ by 45.0%"]),
        (changed("samples", count=64), ["64 images in the samples are too few"]),
        (changed("reference", count=50), ["50 images in the reference are too few"]),
        (replace(changed("samples", count=64), extractor=None), []),
    ],
)
def test_warnings(card: ProtocolCard, words: list[str]) -> None:
    found = find_warnings(card)
    assert len(found) == len(words)
    assert all(word in warning for word, warning in zip(words, found, strict=True))


def test_other_classes_of_the_reference_are_named() -> None:
    card = changed("reference", class_names=("cat", "dog"), class_counts=(700, 300))

    def model(*names: str) -> ProtocolCard:
        return replace(card, model=replace(card.model, class_names=names))

    assert find_warnings(model("cat", "dog")) == ()
    (found,) = find_warnings(model("dog", "cat"))
    assert "(['cat', 'dog']) are not the model's (['dog', 'cat'])" in found
    names = tuple(str(i) for i in range(10))
    other = replace(model("cat"), reference=replace(card.reference, class_names=names))
    assert "10 names: 0, 1, 2, 3 ..." in find_warnings(other)[0]


def test_the_sweeps_images_are_among_the_training_images() -> None:
    card = changed("guidance", swept_on="sweep")
    assert find_warnings(card) == ()
    card = replace(card, reference=replace(card.reference, split="train"))
    assert "very split (train)" in find_warnings(card)[0]


def test_the_table_has_a_column_for_each_set() -> None:
    lines = CARD.table().splitlines()
    assert lines[0].split() == ["unguided", "guided"]
    assert lines[1].split() == ["FD-Fashion", "1.5", "0.7"]
    assert lines[2].split() == ["KID", "0.01", "+-", "0.002"]
    assert any("10 classes, 100 each" in line for line in lines)
    assert any(line.split()[:1] == ["torch"] for line in lines)


def test_only_fid_has_an_inception_score() -> None:
    assert CARD.label("inception_score") == "score (as IS)"
    fid = changed("extractor", label="FID")
    assert [fid.label(name) for name in ("fd", "rfd", "inception_score")] == [
        "FID",
        "rFID",
        "inception score",
    ]


def test_metrics_of_an_unknown_kind_keep_their_names(tmp_path: Path) -> None:
    """The package of the kind may not be installed where a card is read."""
    card = replace(CARD, kind="videos", metrics={"samples": {"flicker_rate": Measured(0.5)}})
    card.save(tmp_path / "card.json")
    assert load_card(tmp_path / "card.json").table().splitlines()[1].split() == [
        *("flicker", "rate", "0.5")
    ]


def test_software_names_what_decodes_images_and_makes_features() -> None:
    packages = software("cpu", 1, 250).packages
    assert {"torch", "numpy", "pillow"} <= set(packages)
    assert None not in packages.values()  # packages that are not installed have no entry


def test_class_counts() -> None:
    assert class_counts([0, 2, 2], 4) == (1, 0, 2, 0)
    assert class_counts([0, 0], 0) == ()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("metrics", None, "metrics must be Mapping, got None"),
        ("model", [], "model must be ModelSection"),
        ("metrics", {"unguided": None}, "NoneType"),
        ("metrics", {"unguided": {"fd": 1.5}}, "must be a mapping, not float"),
        ("samples", {"count": 3}, "missing: samples.labels, samples.first_seed"),
        ("guidance", {"scale": 1.0, "interval": [0, 1], "rescale": 0.7}, "rescale"),
    ],
)
def test_damaged_cards_are_refused(tmp_path: Path, name: str, value: object, words: str) -> None:
    path = tmp_path / "card.json"
    CARD.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(ValueError, match=f"no protocol card of version 2 .*{words}"):
        load_card(path)


@pytest.mark.parametrize(
    "text", ["{}", "[]", "no json", "\xff", '{"card_version": 1, "model": {}}']
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="no protocol card of version 2"):
        load_card(path)


def test_json_is_plain_and_has_no_empty_errors(tmp_path: Path) -> None:
    CARD.save(tmp_path / "card.json")
    metrics = json.loads((tmp_path / "card.json").read_text())["metrics"]
    assert metrics["guided"] == {"fd": {"value": 0.7}, "kid": {"value": 0.01, "error": 0.002}}
