"""The curve of quality: what is counted, what is kept, and which setting the rule picks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.curve import Mean, Point, cheapest, draw, grid, measure

from benchmarks import curve
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.pipelines.base import PLAIN

Build = Callable[..., Any]
FASHION = {"height": 28, "width": 28, "channels": 1, "patch_size": 14}


@pytest.fixture
def pipeline(tiny_models: Build) -> ImagePipeline:
    made = tiny_models(image=FASHION)
    return ImagePipeline(made.encoder.eval(), made.decoder.eval(), PLAIN.change(guidance_scale=2.0))


@pytest.mark.parametrize(
    ("point", "evaluations", "passes"),
    [
        # Steps begin at 0, 0.25, 0.5, 0.75; guidance acts strictly inside (0.1, 1).
        (Point("euler", 1.0, 4), 4, 7),
        (Point("multistep", 1.0, 4), 4, 7),
        # Heun looks at 0, 0.5 and again 0.5; its last step is Euler's.
        (Point("heun", 1.0, 4), 3, 5),
    ],
    ids=lambda value: getattr(value, "key", None),
)
def test_only_what_is_computed_is_counted(
    pipeline: ImagePipeline, point: Point, evaluations: int, passes: int
) -> None:
    images, found, paid = draw(pipeline, point, torch.arange(5), 2)
    assert images.shape == (5, 1, 28, 28)
    assert (found, paid) == (evaluations, passes)


def test_an_image_does_not_depend_on_the_batch(pipeline: ImagePipeline) -> None:
    point = Point("multistep", 0.5, 3)
    together, _, _ = draw(pipeline, point, torch.arange(4), 4)
    apart, _, _ = draw(pipeline, point, torch.arange(4), 1)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)


def test_what_was_measured_is_not_measured_again(
    pipeline: ImagePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, file = [Point("euler", 1.0, 2)], tmp_path / "curve.json"
    first = measure(pipeline, points, 20, 1, 10, file)

    def fail(*_: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(curve, "draw", fail)
        assert measure(pipeline, points, 20, 1, 10, file) == first
    rows = measure(pipeline, points, 20, 2, 10, file)["euler 1 2"]
    assert rows[0] == first["euler 1 2"][0]
    assert rows[0]["distance"] != rows[1]["distance"]


def sample_with(pipeline: ImagePipeline, **changes: Any) -> None:
    pipeline.register_to_config(sampling=pipeline.sampling.change(**changes).to_dict())


@pytest.mark.parametrize(
    ("other", "change"),
    [
        ("encoder", lambda p: p.encoder.norm_out.weight.data.add_(0.1)),
        ("decoder", lambda p: p.decoder.cls_token.data.add_(0.1)),
        ("guidance_scale", lambda p: sample_with(p, guidance_scale=3.0)),
        ("guidance_interval", lambda p: sample_with(p, guidance_interval=(0.2, 1.0))),
    ],
)
def test_another_model_is_not_mixed_in(
    pipeline: ImagePipeline, tmp_path: Path, other: str, change: Callable[[ImagePipeline], object]
) -> None:
    points, file = [Point("euler", 1.0, 2)], tmp_path / "curve.json"
    measure(pipeline, points, 20, 1, 10, file)
    before = file.read_text()
    change(pipeline)
    with pytest.raises(ValueError, match=rf"with another {other}; move it away"):
        measure(pipeline, points, 20, 2, 10, file)
    assert file.read_text() == before


def test_a_file_that_does_not_say_what_it_is_of_is_not_continued(
    pipeline: ImagePipeline, tmp_path: Path
) -> None:
    file = tmp_path / "curve.json"
    file.write_text('{"euler 1 2": []}')
    with pytest.raises(ValueError, match="or choose another --name"):
        measure(pipeline, [Point("euler", 1.0, 2)], 20, 1, 10, file)


def test_other_samples_and_batches_are_not_mixed_in(
    pipeline: ImagePipeline, tmp_path: Path
) -> None:
    points, file = [Point("euler", 1.0, 2)], tmp_path / "curve.json"
    measure(pipeline, points, 20, 1, 10, file)
    with pytest.raises(ValueError, match="with another samples, batch; "):
        measure(pipeline, points, 30, 1, 15, file)


def at(key: str, distance: float, error: float, passes: float) -> Mean:
    return Mean(key, distance, error, passes, passes)


def test_the_rule_takes_the_cheapest_within_two_percent_or_one_error() -> None:
    found = {
        "heun 1 100": at("heun 1 100", 1.0, 0.01, 190.0),
        "fast": at("fast", 1.05, 0.2, 10.0),
        "middle": at("middle", 1.019, 0.0, 20.0),
    }
    assert cheapest(found).key == "middle"  # 2 % of 1.0
    found["heun 1 100"] = at("heun 1 100", 1.0, 0.06, 190.0)
    assert cheapest(found).key == "fast"  # one standard error of the reference


def test_heun_has_even_numbers_of_evaluations() -> None:
    found = [point.key for point in grid(["euler", "heun"], [1.0], [4, 5])]
    assert found == ["euler 1 4", "heun 1 4", "euler 1 5"]
