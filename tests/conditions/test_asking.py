"""Pipelines with conditions: what can be asked for, saving, guidance by name, completing images."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conditions.test_tokens import ASKED, PLAIN, encoder_of
from tests.conftest import make_models

from openunite.modalities.image.pipeline import ImagePipeline
from openunite.pipelines.base import UnitePipeline

SEEDS = [3, 4, 5]


def pipeline_of(conditions: Any = PLAIN) -> ImagePipeline:
    return ImagePipeline(encoder_of(conditions), make_models().decoder)


def images(pipeline: UnitePipeline, asked: Any = None, **options: Any) -> torch.Tensor:
    steps = {"num_inference_steps": 4, "solver": "heun", "seeds": SEEDS}
    found = pipeline.generate(None, conditions=asked, **(steps | options))
    assert isinstance(found, torch.Tensor)
    return found


def test_one_value_is_asked_of_all_samples_and_a_list_has_one_for_each() -> None:
    pipeline = pipeline_of()
    same = images(pipeline, {"gap": (2, 3)})
    torch.testing.assert_close(images(pipeline, {"gap": [(2, 3)] * 3}), same)
    mixed = images(pipeline, {"gap": [(2, 3), None, 5.0]})
    torch.testing.assert_close(mixed[0], same[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(mixed[1], images(pipeline)[1], rtol=0, atol=1e-5)
    assert (mixed[2] - same[2]).abs().max() > 1e-4


def test_conditions_go_beside_classes() -> None:
    pipeline = pipeline_of()
    classes = pipeline.generate([0, 1, 2], seeds=SEEDS, num_inference_steps=4)
    both = pipeline.generate([0, 1, 2], seeds=SEEDS, num_inference_steps=4, conditions=ASKED)
    assert (classes - both).abs().max() > 1e-4
    assert pipeline(num_images=2, conditions=ASKED, output_type="pt").shape[0] == 2


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"gpa": 1.0}, "unknown condition 'gpa', expected some of formula, gap, tag; .* gap"),
        ({"gap": [1.0]}, "condition gap: expected one value for all, or .* 3 samples, got 1"),
        ({"formula": "UO2"}, "condition formula: U does not occur"),
    ],
)
def test_what_the_model_does_not_know_is_named(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        images(pipeline_of(), asked)
    with pytest.raises(ValueError, match="this model has none"):
        images(pipeline_of(None), {"gap": 1.0})


def test_guidance_by_name_is_the_usual_one_for_a_single_condition() -> None:
    pipeline, asked = pipeline_of(), {"gap": 2.0}
    number = images(pipeline, asked, guidance_scale=3.0)
    torch.testing.assert_close(
        images(pipeline, asked, guidance_scale={"gap": 3.0}), number, rtol=0, atol=1e-5
    )
    plain = images(pipeline, ASKED, guidance_scale=1.0)
    torch.testing.assert_close(images(pipeline, ASKED, guidance_scale={}), plain)
    found = [images(pipeline, ASKED, guidance_scale={name: 4.0}) for name in ("gap", "tag")]
    assert (found[0] - found[1]).abs().max() > 1e-4
    with pytest.raises(ValueError, match="guidance_scale names 'tag', but gap is given"):
        images(pipeline, asked, guidance_scale={"tag": 2.0})


def test_a_saved_pipeline_has_its_conditions(tmp_path: Path) -> None:
    pipeline = pipeline_of()
    pipeline.save_pretrained(tmp_path / "it")
    again = ImagePipeline.from_pretrained(tmp_path / "it")
    assert torch.equal(images(again, ASKED), images(pipeline, ASKED))


@pytest.mark.parametrize(
    "changed",
    ['"kind": "numbr"', '"kind": "number", "more": 1', '"kind": 3'],
)
def test_damaged_conditions_of_a_folder_are_refused(tmp_path: Path, changed: str) -> None:
    pipeline_of().save_pretrained(tmp_path / "it")
    (tmp_path / "it" / "manifest.json").unlink()
    path = tmp_path / "it" / "encoder" / "config.json"
    path.write_text(path.read_text().replace('"kind": "number"', changed))
    with pytest.raises(ValueError, match=r"config\.json describes no GenerativeEncoder .*gap"):
        ImagePipeline.from_pretrained(tmp_path / "it")


def test_known_pixels_are_seen_and_can_be_pasted_back() -> None:
    pipeline = pipeline_of()
    seen = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    mask = torch.zeros(8, 8, dtype=torch.bool)
    nothing = images(pipeline, observed=seen, mask=mask)
    torch.testing.assert_close(nothing, images(pipeline), rtol=0, atol=1e-4)
    mask[:4] = True
    half = images(pipeline, observed=seen, mask=mask)
    assert (half - nothing).abs().max() > 1e-3
    other = torch.where(mask, seen, 0.0)
    torch.testing.assert_close(images(pipeline, observed=other, mask=mask), half)
    pasted = images(pipeline, observed=seen, mask=mask, paste=True)
    assert torch.equal(pasted[:, :, :4], seen[:, :, :4])
    assert torch.equal(pasted[:, :, 4:], half[:, :, 4:])
    one = images(pipeline, ASKED, observed=seen[:1], mask=mask, guidance_scale=2.0)
    assert one.shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    ("observed", "mask", "message"),
    [
        (torch.rand(3, 1, 8, 8), None, "belong together"),
        (torch.rand(3, 1, 8, 8), torch.ones(4, 4) > 0, r"mask of booleans \(8, 8\).* got \(4, 4\)"),
        (torch.rand(3, 1, 8, 8), torch.ones(8, 8), "of torch.float32"),
        (torch.rand(2, 1, 8, 8), torch.ones(8, 8) > 0, "one observed image, or 3, got 2"),
    ],
)
def test_observations_that_cannot_be_completed(observed: Any, mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        images(pipeline_of(), observed=observed, mask=mask)
