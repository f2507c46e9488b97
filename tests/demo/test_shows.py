"""What the page shows of models of images, molecules and crystals, and what it refuses."""

import base64
from dataclasses import asdict, replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import perturb
from tests.modalities.atoms.test_pipeline import build
from tests.training.tiny import tiny_config

from openunite import ImagePipeline
from openunite.conditions.text.scratch import ScratchText
from openunite.data.atoms.cif import cif_text
from openunite.data.atoms.structure import Structure
from openunite.demo.atoms import AtomShow
from openunite.demo.forms import MOST_SAMPLES, MOST_STEPS, MOST_UPLOAD
from openunite.demo.images import ImageShow
from openunite.demo.models import open_shows
from openunite.demo.shows import WALK, Show
from openunite.sampling import Sampling
from openunite.training.build import build_models
from openunite.training.config import RunConfig, save_config

FORM = {"count": 3, "seed": 5, "steps": 2, "guidance": 1.5}
WATER = b"3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"


def image_config() -> RunConfig:
    """Settings with conditions of every kind, trained with partial draws."""
    conditions = {
        "light": {"kind": "number", "mean": 100.0, "std": 20.0, "low": 10.0, "high": 200.0},
        "shade": {"kind": "category", "names": ["bright", "dark"]},
        "tags": {"kind": "category", "names": ["a", "b", "c"], "most": 2},
        "words": {"kind": "text", **asdict(ScratchText.fit(["a red boot", "a blue bag"] * 9))},
    }
    config = tiny_config(conditions=conditions, objective__partial_share=0.5)
    return replace(config, data=replace(config.data, source="fashion-mnist-mini"))


def image_show() -> ImageShow:
    """A small model with those settings, not trained."""
    config = image_config()
    encoder, decoder = build_models(config)
    for model in (encoder, decoder):
        perturb(model)
    names = [f"kind {i}" for i in range(10)]
    sampling = Sampling("multistep", 4, 1.0, 2.0)
    pipeline = ImagePipeline(encoder.eval(), decoder.eval(), sampling, class_names=names)
    return ImageShow("clothes", pipeline, config)


@pytest.fixture(scope="module")
def images() -> ImageShow:
    return image_show()


@pytest.fixture(scope="module")
def molecules() -> AtomShow:
    return AtomShow("molecules", build("molecule"))


def picture(shown: dict[str, Any]) -> np.ndarray:
    content = base64.b64decode(shown["png"])
    return np.asarray(Image.open(BytesIO(content)).convert("RGB"))


def upload(content: bytes, name: str) -> dict[str, Any]:
    return {"upload": {"name": name, "data": base64.b64encode(content).decode()}}


def png(side: int = 40) -> bytes:
    file = BytesIO()
    Image.linear_gradient("L").resize((side, side)).save(file, "PNG")
    return file.getvalue()


# ---- images ---------------------------------------------------------------------------------


def test_the_page_learns_what_a_model_can_do(images: ImageShow, molecules: AtomShow) -> None:
    about = images.describe()
    assert about["actions"] == ["sample", "steps", "reconstruct", "walk", "complete", "nearest"]
    assert about["classes"][3] == "kind 3"
    assert (about["steps"], about["guidance"], about["sized"]) == (4, 2.0, False)
    fields = {field["name"]: field for field in about["conditions"]}
    assert (fields["light"]["low"], fields["light"]["high"]) == (10.0, 200.0)
    assert "a number or a range, 10 to 200" in fields["light"]["help"]
    assert fields["shade"]["names"] == ["bright", "dark"]
    assert (fields["shade"]["several"], fields["tags"]["several"]) == (False, True)
    assert (fields["words"]["kind"], fields["words"]["names"]) == ("text", [])
    other = molecules.describe()
    assert other["actions"] == ["sample", "steps", "reconstruct", "walk"]
    assert (other["sized"], other["most_atoms"], other["classes"]) == (True, 7, [])
    assert other["accepts"] == [".sdf", ".mol", ".xyz"]


def test_what_a_run_was_not_trained_for_is_not_offered(images: ImageShow) -> None:
    plain = replace(image_config(), objective=tiny_config().objective)
    assert "complete" not in ImageShow("a", images.pipeline, plain).actions
    assert {"complete", "nearest"}.isdisjoint(ImageShow("a", images.pipeline).actions)


def test_samples_are_those_of_the_pipeline(images: ImageShow) -> None:
    found = images.answer("sample", FORM)
    options = {"num_inference_steps": 2, "guidance_scale": 1.5}
    expected = images.pipeline([0, 1, 2], seeds=[5, 6, 7], **options)
    for shown, image in zip(found["shown"], expected, strict=True):
        assert np.array_equal(picture(shown)[:, :, 0], np.asarray(image))
    assert [shown["label"] for shown in found["shown"]] == [
        f"kind {i}, seed {5 + i}" for i in range(3)
    ]
    assert found["shown"][1]["choice"] == {"label": 1, "seed": 6}
    one = images.answer("sample", FORM | {"label": 4, "count": 1})
    assert one["shown"][0]["choice"] == {"label": 4, "seed": 5}


def test_steps_lead_from_noise_to_the_sample(images: ImageShow) -> None:
    form = FORM | {"label": 4}
    found = images.answer("steps", form)
    assert found["layout"] == "steps"
    assert [shown["label"] for shown in found["shown"]] == [f"step {i} of 2" for i in range(3)]
    sample = images.answer("sample", form | {"count": 1})["shown"][0]
    assert np.array_equal(picture(found["shown"][-1]), picture(sample))
    assert not np.array_equal(picture(found["shown"][0]), picture(sample))


def test_a_walk_has_both_samples_at_its_ends(images: ImageShow) -> None:
    form = FORM | {"label": 1, "other_label": 2, "other_seed": 9}
    found = images.answer("walk", form)["shown"]
    assert len(found) == WALK
    assert found[0]["label"] == "0 %"
    assert not np.array_equal(picture(found[0]), picture(found[-1]))


def test_a_picture_of_the_visitor_is_taken_apart(images: ImageShow) -> None:
    found = images.answer("reconstruct", FORM | upload(png(), "../../etc/me.png"))
    assert found["layout"] == "row"
    before, after = (picture(shown) for shown in found["shown"])
    assert before.shape == after.shape == (28, 28, 3)
    assert before[0].mean() < before[-1].mean()  # upright
    assert "784 numbers of your picture into 32" in found["words"]


@pytest.mark.parametrize("half", ["left", "right", "top", "bottom"])
def test_the_half_that_is_kept_stays_and_the_other_is_painted(images: ImageShow, half: str) -> None:
    form = FORM | {"half": half} | upload(png(), "me.png")
    seen, *completed = (picture(shown) for shown in images.answer("complete", form)["shown"])
    kept = {
        "left": np.s_[:, :14], "right": np.s_[:, 14:], "top": np.s_[:14], "bottom": np.s_[14:],
    }[half]  # fmt: skip
    other = {
        "left": np.s_[:, 14:], "right": np.s_[:, :14], "top": np.s_[14:], "bottom": np.s_[:14],
    }[half]  # fmt: skip
    assert set(seen[other].ravel().tolist()) <= {127, 128}
    assert all(np.array_equal(image[kept], seen[kept]) for image in completed)
    assert not np.array_equal(completed[0][other], completed[1][other])


def test_without_a_picture_the_sample_itself_is_completed(images: ImageShow) -> None:
    sample = picture(images.answer("sample", FORM | {"label": 2, "count": 1})["shown"][0])
    found = images.answer("complete", FORM | {"label": 2})["shown"]
    assert np.array_equal(picture(found[1])[:, :14], sample[:, :14])


def test_the_nearest_training_images_are_found(images: ImageShow) -> None:
    found = images.answer("nearest", FORM | {"label": 0})
    assert "6,000 training images" in found["words"]
    sample, *near = found["shown"]
    distances = [float(shown["label"].split()[-1]) for shown in near]
    assert distances == sorted(distances)
    apart = (picture(sample)[:, :, 0] / 255.0 - picture(near[0])[:, :, 0] / 255.0) ** 2
    assert apart.mean() ** 0.5 == pytest.approx(distances[0], abs=0.003)


def test_conditions_are_asked_for_and_warnings_are_shown(images: ImageShow) -> None:
    def words(**conditions: str) -> tuple[str, np.ndarray]:
        found = images.answer("sample", FORM | {"count": 1, "conditions": conditions})
        return found["words"], picture(found["shown"][0])

    plain = words()[1]
    asked = ({"light": "50..60"}, {"shade": "dark"}, {"tags": "a, b"}, {"words": "a red, red boot"})
    for given in asked:
        assert not np.array_equal(words(**given)[1], plain), given
    assert np.array_equal(words(light="", shade=" ")[1], plain)
    assert "outside 10..200, the values seen in training" in words(light="900")[0]
    with pytest.raises(ValueError, match="unknown name 'dim'"):
        words(shade="dim")
    with pytest.raises(ValueError, match="a condition that this model does not have"):
        words(colour="red")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": MOST_SAMPLES + 1}, f"whole number from 1 to {MOST_SAMPLES}"),
        ({"count": 10**30}, "number of samples"),
        ({"count": True}, "number of samples"),
        ({"steps": MOST_STEPS + 1}, f"steps must be a whole number from 1 to {MOST_STEPS}"),
        ({"steps": None}, "steps must be a whole number"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": 2.5}, "seed must be a whole number"),
        ({"guidance": float("nan")}, "guidance must be a number from 0 to 20"),
        ({"guidance": "2"}, "guidance must be a number"),
        ({"label": 10}, "class must be a whole number from 0 to 9"),
        ({"label": "kind 1"}, "class must be a whole number"),
        ({"half": "middle"}, "must be one of left, right, top, bottom"),
        ({"conditions": []}, "a condition that this model does not have"),
        ({"conditions": {"light": 3}}, "light must be text of at most 200 characters"),
        ({"conditions": {"light": "9" * 300}}, "light must be text"),
        ({"upload": "a.png"}, "the uploaded file is incomplete"),
        ({"upload": {"name": "a.png", "data": "***"}}, "the uploaded file is damaged"),
        ({"upload": {"name": "a.png", "data": ""}}, "the uploaded file is empty"),
    ],
)  # fmt: skip
def test_forms_beyond_the_limits_are_one_sentence(
    images: ImageShow, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        images.answer("sample", FORM | values)


def test_what_is_no_form_or_no_action_is_refused(images: ImageShow) -> None:
    with pytest.raises(ValueError, match="expected a form"):
        images.answer("sample", [])
    with pytest.raises(ValueError, match="clothes cannot do 'describe'"):
        images.answer("describe", FORM)


def test_files_that_are_no_pictures_are_one_sentence(images: ImageShow) -> None:
    bomb = BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    for content in (b"no picture", png()[:60], b"\x89PNG\r\n\x1a\n", WATER, bomb.getvalue()):
        with pytest.raises(ValueError, match="your file cannot be used: ") as caught:
            images.answer("reconstruct", FORM | upload(content, "a.png"))
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=f"at most {MOST_UPLOAD:,} are taken"):
        images.answer("reconstruct", FORM | upload(bytes(MOST_UPLOAD + 1), "a.png"))
    with pytest.raises(ValueError, match="choose a picture of yours first"):
        images.answer("reconstruct", FORM)


# ---- molecules and crystals -----------------------------------------------------------------


@pytest.mark.parametrize("modality", ["molecule", "crystal"])
def test_structures_come_as_pictures_and_as_numbers(modality: str) -> None:
    show = AtomShow("atoms", build(modality))
    found = show.answer("sample", FORM | {"atoms": 3})["shown"]
    assert len(found) == 3
    for shown in found:
        assert picture(shown).shape == (240, 240, 3)
        structure = shown["structure"]
        assert structure is None or len(structure["elements"]) == len(structure["positions"]) == 3
        assert structure is None or (structure["cell"] is None) is (modality == "molecule")
    steps = show.answer("steps", FORM)["shown"]
    assert [shown["label"].split(", ")[1] for shown in steps] == [
        f"step {i} of 2" for i in range(3)
    ]
    sample = show.answer("sample", FORM | {"count": 1})["shown"][0]
    assert steps[-1]["structure"] == sample["structure"]


def test_a_walk_between_molecules_keeps_their_number_of_atoms(molecules: AtomShow) -> None:
    found = molecules.answer("walk", FORM | {"atoms": 4})["shown"]
    assert [len(shown["structure"]["elements"]) for shown in found] == [4] * WALK


def test_a_structure_of_the_visitor_is_encoded_and_decoded(molecules: AtomShow) -> None:
    found = molecules.answer("reconstruct", FORM | upload(WATER, "C:\\my water.XYZ"))
    before, after = found["shown"]
    assert before["label"] == "H2O, yours"
    assert before["structure"]["elements"] == ["O", "H", "H"]
    assert len(after["structure"]["elements"]) == 3
    cell = np.diag([4.0, 4.0, 4.0])
    salt = Structure(np.array([6, 8]), np.array([[0.0, 0, 0], [2, 2, 2]]), cell)
    crystals = AtomShow("crystals", build("crystal"))
    found = crystals.answer(
        "reconstruct", FORM | upload(cif_text(salt, "salt").encode(), "salt.cif")
    )
    assert found["shown"][0]["structure"]["cell"] is not None


def test_formulas_of_molecules_are_in_the_order_of_chemists(molecules: AtomShow) -> None:
    methanol = (
        b"6\n\nO 1.4 0 0\nC 0 0 0\nH -0.4 1 0\nH -0.4 -0.5 0.9\nH -0.4 -0.5 -0.9\nH 1.7 0.9 0\n"
    )
    found = molecules.answer("reconstruct", FORM | upload(methanol, "methanol.xyz"))
    assert found["shown"][0]["label"] == "CH4O, yours"


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (WATER, "water.cif", r"expected a file that ends in \.sdf or \.mol or \.xyz"),
        (WATER, "/etc/passwd", "expected a file that ends in"),
        (WATER, "water.xyz.gz", "expected a file that ends in"),
        (b"nothing", "a.xyz", "your file cannot be used: "),
        (b"\x00\xff" * 50, "a.sdf", "your file cannot be used: "),
        (WATER.replace(b"O", b"Xx"), "a.xyz", "your file cannot be used: "),
        (WATER.replace(b"O", b"Fe"), "a.xyz", "contains Fe, this model knows H, C, O"),
        (b"9\n\n" + b"H 0 0 0\n" * 9, "a.xyz", "your file cannot be used: "),
        (bytes(2_000_000), "a.xyz", "more than 1,000,000 bytes"),
    ],
)
def test_files_that_are_no_structures_are_one_sentence(
    molecules: AtomShow, content: bytes, name: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        molecules.answer("reconstruct", FORM | upload(content, name))
    text = str(caught.value)
    assert "\n" not in text
    assert "/tmp" not in text
    assert "upload." not in text


# ---- sources --------------------------------------------------------------------------------


def test_runs_and_folders_become_shows(
    images: ImageShow, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.pipeline.save_pretrained(tmp_path / "run" / "pipeline")
    save_config(image_config(), tmp_path / "run" / "config.yaml")
    build("molecule").save_pretrained(tmp_path / "other" / "run")
    shows: list[Show] = open_shows([tmp_path / "run", str(tmp_path / "other" / "run")])
    assert [(show.name, type(show)) for show in shows] == [
        ("run", ImageShow),
        ("run (2)", AtomShow),
    ]
    assert "nearest" in shows[0].actions
    assert shows[1].config is None
    (tmp_path / "run" / "config.yaml").write_text("recipe: [")
    assert open_shows([tmp_path / "run"])[0].config is None
    with pytest.raises(FileNotFoundError, match="neither a run"):
        open_shows([tmp_path])


def test_noise_and_states_are_float32_on_the_way(images: ImageShow) -> None:
    states = images.follow(
        lambda callback: images.pipeline.generate(0, seeds=[1], callback=callback), 1
    )
    assert {state.dtype for state in states.values()} == {torch.float32}
    assert len({tuple(state.shape) for state in states.values()}) == 1


def test_of_many_steps_some_are_shown(images: ImageShow) -> None:
    found = images.answer("steps", FORM | {"steps": MOST_STEPS})["shown"]
    assert len(found) == 61
    assert found[0]["label"] == f"step 0 of {MOST_STEPS}"
    assert found[-1]["label"] == f"step {MOST_STEPS} of {MOST_STEPS}"
