"""`openunite analyze`: what it leaves in a run folder, for images with labels and without."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import perturb
from tests.training.tiny import tiny_config

from openunite.cli import main
from openunite.modalities.image.analyses import IMAGE_ANALYSES, ImageStudy
from openunite.runs import load_pipeline, make_pipeline
from openunite.training.build import build_models
from openunite.training.config import load_config, save_config
from openunite.verbs.analyze import _plain

SIZE = {"height": 28, "width": 28, "channels": 1, "patch_size": 14}
LOG = Path(__file__).parents[1] / "fixtures" / "format_1" / "run" / "metrics.jsonl"
FIGURES = {
    "dynamics",
    "weight_entropy",
    "layer_similarity",
    "latent_agreement",
    "residual_norms",
    "probe",
    "latent_statistics",
    "trajectory",
    "interpolation",
    "memorization",
}


def run_on(source: str, folder: Path, num_classes: int) -> Path:
    """A run whose weights were perturbed rather than trained."""
    config = tiny_config(
        modality_config=SIZE,
        num_classes=num_classes,
        data__source=source,
        sampling__num_inference_steps=4,
    )
    encoder, decoder = build_models(config)
    perturb(encoder)
    perturb(decoder, seed=2)
    make_pipeline(encoder, decoder, config, {}).save_pretrained(folder / "pipeline")
    shutil.copy(LOG, folder)
    save_config(config, folder / "config.yaml")
    return folder


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = run_on("fashion-mnist-mini", tmp_path_factory.mktemp("run"), 10)
    main(["analyze", str(folder), "--num-images", "32", "--compare", str(folder)])
    return folder


def entries(run: Path) -> dict[str, dict]:
    found = json.loads((run / "analysis" / "analysis.json").read_text())
    return {entry["name"]: entry for entry in found["analyses"]}


def test_every_analysis_leaves_a_figure_a_sentence_and_numbers(labeled: Path) -> None:
    found = entries(labeled)
    assert set(found) == FIGURES | {"layer_similarity_compare"}
    for entry in found.values():
        assert entry["title"]
        assert entry["reading"].endswith(".")
        assert entry["numbers"]
        for name in entry["files"]:
            with Image.open(labeled / "analysis" / name) as image:
                assert image.width > 200
    assert found["trajectory"]["files"] == ["trajectory.png", "trajectory.gif"]
    with Image.open(labeled / "analysis" / "trajectory.gif") as image:
        assert image.n_frames == 4  # the last step ends on the prediction before it


def test_a_run_is_like_itself(labeled: Path) -> None:
    found = entries(labeled)
    similarity = "layer_similarity"
    assert found[similarity]["numbers"] == found[f"{similarity}_compare"]["numbers"]
    models = found["weight_entropy"]["numbers"]["models"]
    assert models["this run"] == models[labeled.name]
    assert models["random initialization"]["norms"]["megabytes"] == 0.0


def test_the_passes_are_those_of_the_pipeline(labeled: Path) -> None:
    """What is compared as tokenized latents is what `encode` gives."""
    pipeline = load_pipeline(str(labeled))
    study = ImageStudy.open(labeled, load_config(labeled / "config.yaml"), pipeline, 16)
    seen = []
    encoder = pipeline.encoder
    forward = type(encoder).forward

    def watch(*arguments: object, **options: object) -> torch.Tensor:
        latents = forward(encoder, *arguments, **options)
        seen.append(latents)
        return latents

    encoder.forward = watch
    study.passes()
    first = seen[0]
    del encoder.forward
    assert torch.equal(first, pipeline.encode(study.images[: len(first)]))


def test_a_flat_folder_has_no_probe_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(40):
        pixels = generator.integers(0, 255, (3, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((30, 30)).save(tmp_path / "photos" / f"{i}.png")
    folder = run_on(str(tmp_path / "photos"), tmp_path / "run", 0)
    main(["analyze", str(folder), "--num-images", "20", "--output", str(tmp_path / "out")])
    about = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert {entry["name"] for entry in about["analyses"]} == FIGURES - {"probe"}
    assert list(about["missing"].values()) == ["the data have no labels of two or more classes"]
    assert "Left out, for the data have no labels" in capsys.readouterr().out


def test_other_data_are_refused(labeled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (labeled / "data.json").write_text('{"fingerprint": "another"}')
    try:
        with pytest.raises(SystemExit):
            main(["analyze", str(labeled), "--num-images", "32"])
    finally:
        (labeled / "data.json").unlink()
    assert "changed since" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "is no run"), (["--num-images", "3"], "at least 16")],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    if arguments:
        (tmp_path / "config.yaml").write_text("")
    with pytest.raises(SystemExit):
        main(["analyze", str(tmp_path), *arguments])
    assert message in capsys.readouterr().err


def test_names_of_analyses_are_unique() -> None:
    assert len({kind.name for kind in IMAGE_ANALYSES}) == len(IMAGE_ANALYSES)


def test_undefined_numbers_become_null() -> None:
    values = {"a": float("nan"), "b": [1.0, float("inf")], "c": {"d": 2}}
    assert _plain(values) == {"a": None, "b": [1.0, None], "c": {"d": 2}}


def test_molecules_get_training_and_weights(tmp_path: Path) -> None:
    atoms = {"elements": [1, 6, 8], "max_atoms": 4}
    config = tiny_config(modality="molecule", modality_config=atoms, num_classes=0)
    make_pipeline(*build_models(config), config, {}).save_pretrained(tmp_path / "pipeline")
    shutil.copy(LOG, tmp_path)
    save_config(config, tmp_path / "config.yaml")
    main(["analyze", str(tmp_path)])
    assert set(entries(tmp_path)) == {"dynamics", "weight_entropy"}
    about = json.loads((tmp_path / "analysis" / "analysis.json").read_text())
    reason = "none of them is known for molecules"
    assert about["missing"] == {"layers, latents and samples": reason}
