"""The protocol card exposes a wrong protocol, and survives a file."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from openunite.evaluation.card import (
    ProtocolCard,
    class_counts,
    differences,
    find_warnings,
    load_card,
    software,
)


def protocol() -> dict[str, Any]:
    return {
        "extractor": {"name": "fashion", "label": "FD-Fashion", "checksum": "aa", "dim": 64},
        "reference": {
            "data": "mini",
            "checksum": "bb",
            "split": "test",
            "images": 1000,
            "class_counts": [100] * 10,
        },
        "samples": {"images": 1000, "class_counts": [100] * 10, "seeds": "0 to 999"},
        "sampling": {"solver": "heun", "evaluations": 50.0},
        "guidance": {"scale": 2.0, "interval": [0.1, 1.0], "swept_on": "nothing"},
    }


def card(changed: dict[str, Any] | None = None) -> ProtocolCard:
    metrics = {"unguided": {"FD-Fashion": 1.5}, "guided": {"FD-Fashion": 0.7, "KID": 0.01}}
    return ProtocolCard({"checksum": "m"}, changed or protocol(), software("cpu", 1), metrics)


def test_a_card_survives_a_file(tmp_path: Path) -> None:
    card().save(tmp_path / "card.json")
    assert load_card(tmp_path / "card.json") == card()
    assert differences(card(), load_card(tmp_path / "card.json")) == []


@pytest.mark.parametrize(
    ("part", "name", "value", "words"),
    [
        ("reference", "split", "train", "reference.split: test -> train"),
        ("extractor", "checksum", "cc", "extractor.checksum: aa -> cc"),
        ("samples", "class_counts", [991] + [1] * 9, "samples.class_counts: 10 classes, 100 each"),
        ("samples", "seeds", "5 to 1004", "samples.seeds"),
        ("guidance", "interval", [0.0, 1.0], "guidance.interval"),
        ("sampling", "evaluations", 49.5, "sampling.evaluations"),
    ],
)
def test_differences_name_the_field(part: str, name: str, value: object, words: str) -> None:
    other = protocol()
    other[part][name] = value
    (found,) = differences(card(), card(other))
    assert found.startswith(words)


def test_outcomes_are_no_settings() -> None:
    """A sweep that was run, and what an adaptive solver took; a setting counts nevertheless."""
    one, other = protocol(), protocol()
    other["guidance"]["swept_on"] = "sweep"
    assert differences(card(one), card(other)) == []
    for values, evaluations in ((one, 104.0), (other, 110.0)):
        values["sampling"] |= {"solver": "dopri5", "steps": "adaptive", "evaluations": evaluations}
    assert differences(card(one), card(other)) == []
    other["sampling"]["batch_size"] = 64
    assert differences(card(one), card(other)) == ["sampling.batch_size: None -> 64"]


def test_a_field_that_only_one_card_has_is_a_difference() -> None:
    other = protocol()
    other["guidance"]["rescale"] = 0.7
    assert differences(card(), card(other)) == ["guidance.rescale: None -> 0.7"]


def test_a_sound_protocol_has_no_warnings() -> None:
    assert find_warnings(protocol()) == []
    almost = protocol()  # 1,003 samples of ten classes in turn
    almost["samples"] |= {"images": 1003, "class_counts": [101] * 3 + [100] * 7}
    assert find_warnings(almost) == []


def changed(part: str, **values: object) -> dict[str, Any]:
    result = copy.deepcopy(protocol())
    result[part] |= values
    return result


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (changed("samples", class_counts=[550] + [50] * 9), ["not balanced", "differ by 45.0%"]),
        (changed("reference", class_counts=[190, 10] * 5), ["differ by 45.0%"]),
        (changed("samples", images=64), ["64 images in the samples are too few"]),
        (changed("reference", images=50), ["50 images in the reference are too few"]),
    ],
)
def test_warnings(values: dict[str, Any], words: list[str]) -> None:
    found = find_warnings(values)
    assert len(found) == len(words)
    assert all(word in warning for word, warning in zip(words, found, strict=True))


def test_other_classes_of_the_reference_are_named() -> None:
    values = changed("reference", class_names=["cat", "dog"], class_counts=[700, 300])
    assert find_warnings(values, ["cat", "dog"]) == []
    (found,) = find_warnings(values, ["dog", "cat"])
    assert "(['cat', 'dog']) are not the model's (['dog', 'cat'])" in found
    values["reference"]["class_names"] = [str(i) for i in range(10)]
    assert "10 names: 0, 1, 2, 3 ..." in find_warnings(values, ["cat"])[0]


def test_the_sweeps_images_are_among_the_training_images() -> None:
    values = changed("guidance", swept_on="sweep")
    assert find_warnings(values) == []
    values["reference"]["split"] = "train"
    assert "very split (train)" in find_warnings(values)[0]


def test_the_table_has_a_column_for_each_set() -> None:
    lines = card().table().splitlines()
    assert lines[0].split() == ["unguided", "guided"]
    assert lines[1].split() == ["FD-Fashion", "1.5", "0.7"]
    assert lines[2].split() == ["KID", "0.01"]
    assert any("10 classes, 100 each" in line for line in lines)
    assert any(line.split()[:1] == ["torch"] for line in lines)


def test_software_names_what_decodes_images_and_makes_features() -> None:
    found = software("cpu", 1)
    assert {"torch", "numpy", "pillow"} <= set(found)
    assert None not in found.values()  # what is not installed has no entry


def test_class_counts() -> None:
    assert class_counts([0, 2, 2], 4) == [1, 0, 2, 0]
    assert class_counts([0, 0], 0) == []


@pytest.mark.parametrize(
    ("name", "value"), [("metrics", None), ("protocol", []), ("metrics", {"unguided": None})]
)
def test_damaged_cards_are_refused(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / "card.json"
    card().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(ValueError, match=f"no protocol card of version 1 \\({name}"):
        load_card(path)


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"card_version": 1, "other": 2}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="no protocol card of version 1"):
        load_card(path)


def test_json_is_plain(tmp_path: Path) -> None:
    card().save(tmp_path / "card.json")
    assert json.loads((tmp_path / "card.json").read_text())["metrics"]["guided"]["KID"] == 0.01
