"""`openunite finetune-decoder` on a finished tiny run: a new run, the old latents."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from openunite.batch import Evidence
from openunite.catalog import get_recipe
from openunite.cli import main
from openunite.commands import Finetune
from openunite.runs import load_pipeline
from openunite.training.config import differences, load_config, save_config
from openunite.verbs.finetune import decoder_config, finetune

RUN = Path(__file__).parents[1] / "fixtures" / "format_1" / "run"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The stored run, finished, its data replaced by twenty small pictures."""
    shutil.copytree(RUN, tmp_path / "run")
    pictures = tmp_path / "pictures"
    for i in range(20):
        (pictures / str(i % 10)).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 255, (28, 28), dtype=np.uint8)
        Image.fromarray(noise).save(pictures / str(i % 10) / f"{i}.png")
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    config["data"]["source"] = str(pictures)
    config["sampling"]["num_inference_steps"] = 1
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    load_pipeline(str(tmp_path / "run")).save_pretrained(tmp_path / "run" / "pipeline")
    (tmp_path / "run" / "metrics.json").write_text('{"steps": 12}')
    return tmp_path / "run"


def test_a_new_run_with_the_same_latents_and_another_decoder(run: Path) -> None:
    main(["finetune-decoder", str(run), "--steps", "3", "--adversarial-weight", "0.5"])
    output = run.with_name("run-decoder")
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["steps"] == 3
    assert load_config(output / "config.yaml").objective.adversarial_weight == 0.5
    before, after = load_pipeline(str(run)), load_pipeline(str(output))
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    latents = before.encode(images)
    assert torch.equal(after.encode(images), latents)
    evidence, seeds = Evidence.of_classes(torch.tensor([1])), torch.tensor([2])
    assert torch.equal(
        before.sample_latents(evidence, seeds), after.sample_latents(evidence, seeds)
    )
    assert not torch.equal(before.decode_tensor(latents), after.decode_tensor(latents))
    parts = (after.encoder, after.decoder)
    assert metrics["parameters"] == sum(p.numel() for m in parts for p in m.parameters())
    shutil.rmtree(output / "pipeline")  # an unfinished run is read from its checkpoint
    assert torch.equal(load_pipeline(str(output)).encode(images), latents)


def test_only_what_finetuning_needs_changes() -> None:
    config = replace(get_recipe("fashion")(), sharding="full")
    assert decoder_config(config, Finetune("runs/fashion")).sharding == "none"
    changed = differences(config, decoder_config(config, Finetune("runs/fashion")))
    assert {line.split(":")[0] for line in changed} == {
        "init_from",
        "objective.stage",
        "optimizer.adamw_learning_rate",
        "optimizer.muon_learning_rate",
        "steps",
    }


@pytest.mark.parametrize("missing", ["pipeline", "metrics.json"])
def test_a_run_that_is_not_finished_is_refused(run: Path, missing: str) -> None:
    (run / missing).rename(run / "elsewhere")
    with pytest.raises(ValueError, match="is not finished"):
        finetune(Finetune(str(run), steps=1))
    assert not run.with_name("run-decoder.yaml").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "--steps must be at least 1, got 0"),
        ({"adversarial_weight": -0.5}, "--adversarial-weight must be finite and at least 0"),
        ({"adversarial_weight": float("nan")}, "got nan"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decoder_config(get_recipe("fashion")(), Finetune("runs/fashion", **changes))


def test_a_folder_without_a_run_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["finetune-decoder", str(tmp_path / "nothing")])
    assert stop.value.code == 2
    assert "nothing is no run: it has no config.yaml" in capsys.readouterr().err


def test_a_convolutional_head_is_trained_further(run: Path, tmp_path: Path) -> None:
    config = load_config(run / "config.yaml")
    images = {**config.modality_config, "head": "convolutional"}
    save_config(replace(config, modality_config=images, steps=2), tmp_path / "own.yaml")
    own = tmp_path / "own"
    main(["train", "--config", str(tmp_path / "own.yaml"), "--output", str(own)])
    main(["finetune-decoder", str(own), "--steps", "2"])
    before, after = load_pipeline(str(own)), load_pipeline(str(tmp_path / "own-decoder"))
    for name in ("features", "conv_in", "conv_hidden", "pixel_output"):
        old, new = (p.decoder.head.refinement.get_submodule(name) for p in (before, after))
        assert not torch.equal(old.weight, new.weight)
    assert torch.equal(before.encoder.latent_output.weight, after.encoder.latent_output.weight)
