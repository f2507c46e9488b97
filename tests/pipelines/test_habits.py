"""Python as a user of diffusers types it."""

import io
import logging
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import make_models
from tests.modalities.atoms.test_pipeline import build

import openunite
from openunite import ImagePipeline
from openunite.drawing.lists import Images, Structures, shown
from openunite.sampling import Sampling

NAMES = ["ant", "bee", "cat", "dog", "eel"]
PT: dict[str, Any] = {"output_type": "pt"}


@pytest.fixture(scope="module")
def pipe() -> ImagePipeline:
    """For 8 x 8 gray images of five classes."""
    models = make_models()
    made = ImagePipeline(
        models.encoder.eval(), models.decoder.eval(), Sampling("euler", 3, 1.0, 2.0), NAMES
    )
    made.set_progress_bar_config(disable=True)
    return made


def test_images_are_a_list_and_are_under_the_name_that_diffusers_uses(pipe: ImagePipeline) -> None:
    found = pipe(["bee", "cat"], seeds=[1, 2])
    assert isinstance(found, list)
    assert [type(image) for image in found] == [Image.Image] * 2
    assert found.images == list(found)
    assert type(found.images) is list


@pytest.mark.parametrize("labels", [["bee", "dog"], np.array([1, 3]), torch.tensor([1, 3])])
def test_so_many_images_are_made_of_each_label(pipe: ImagePipeline, labels: Any) -> None:
    expected = pipe([1, 1, 1, 3, 3, 3], seeds=range(6), **PT)
    assert torch.equal(pipe(labels, num_images_per_prompt=3, seeds=range(6), **PT), expected)
    assert len(pipe("bee", num_images_per_prompt=3)) == 3
    assert len(pipe(num_images_per_prompt=3)) == 3
    assert len(pipe(num_images=2, num_images_per_prompt=3)) == 6
    with pytest.raises(ValueError, match="num_images_per_prompt must be a whole number"):
        pipe("bee", num_images_per_prompt=0)


def test_a_batch_size_alone_is_the_number_of_images(pipe: ImagePipeline) -> None:
    assert len(pipe(batch_size=4)) == 4
    assert len(pipe("bee", batch_size=4)) == 4
    assert len(pipe(["bee", "cat"], batch_size=4)) == 2


def test_a_batch_size_changes_no_image(pipe: ImagePipeline) -> None:
    labels, seeds = [0, 1, 2, 3, 4], [7, 8, 9, 10, 11]
    batches = list[int]()

    def watch(_: int, t: float, z: torch.Tensor) -> None:
        if t == 1.0:
            batches.append(len(z))

    whole = pipe(labels, seeds=seeds, **PT)
    parts = pipe(labels, seeds=seeds, batch_size=2, callback=watch, **PT)
    assert batches == [2, 2, 1]
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0.0)
    picture = Image.linear_gradient("L").resize((8, 8))
    half: Any = {"observed": picture, "mask": np.arange(64).reshape(8, 8) < 32, "seeds": seeds}
    several = pipe(batch_size=2, **half, **PT)
    torch.testing.assert_close(several, pipe(**half, **PT), atol=1e-5, rtol=0.0)
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        pipe(batch_size=0)


def test_the_end_of_each_step_can_be_watched_as_in_diffusers(pipe: ImagePipeline) -> None:
    seen, both = list[tuple[Any, int, float]](), list[float]()

    def watch(
        of: Any, step: int, t: float, values: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        seen.append((of, step, round(t, 3)))
        return values

    options: Any = {"callback_on_step_end": watch, "callback": lambda n, t, z: both.append(t)}
    watched = pipe(["bee"], seeds=[1], **options, **PT)
    assert torch.equal(watched, pipe(["bee"], seeds=[1], **PT))
    assert seen == [(pipe, 0, 0.333), (pipe, 1, 0.667), (pipe, 2, 1.0)]
    assert len(both) == 3
    atoms = build("molecule")
    atoms(1, callback_on_step_end=lambda *given: both.append(given[1]), num_inference_steps=2)
    assert both[3:] == [0, 1]


def test_latents_that_a_callback_changes_are_refused_and_not_ignored(pipe: ImagePipeline) -> None:
    def change(*given: Any) -> dict[str, torch.Tensor]:
        return {"latents": given[3]["latents"] + 1.0}

    with pytest.raises(ValueError, match="returned other latents, but it can only watch"):
        pipe(["bee"], callback_on_step_end=change)


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("prompt", "class_labels"),
        ("steps", "num_inference_steps"),
        ("cfg", "guidance_scale"),
        ("guidance", "guidance_scale"),
        ("num_samples", "num_images"),
        ("callback_on_step", "callback_on_step_end"),
        ("images_per_prompt", "num_images_per_prompt"),
    ],
)
def test_words_of_others_get_the_nearest_here(pipe: ImagePipeline, word: str, nearest: str) -> None:
    message = f"^ImagePipeline takes no argument '{word}', .*; the nearest is {nearest}$"
    with pytest.raises(ValueError, match=message):
        pipe(**{word: 1})


def test_a_walk_has_a_usual_length(pipe: ImagePipeline) -> None:
    first, second = pipe([0, 1], seeds=[1, 2])
    assert len(pipe.interpolate(first, second)) == 8


def test_class_names_are_an_attribute_without_a_warning(
    pipe: ImagePipeline, recwarn: pytest.WarningsRecorder
) -> None:
    assert pipe.class_names == NAMES
    assert [str(warning.message) for warning in recwarn] == []


def test_moving_and_casting_is_silent(
    pipe: ImagePipeline, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("diffusers.models.modeling_utils")
    pipe.to("cpu", torch.float32)
    assert caplog.messages == []
    assert "kept in float32" not in capfd.readouterr().err
    assert not logger.disabled


# ---- in a notebook --------------------------------------------------------------------------


def size_of(png: bytes | None) -> tuple[int, int]:
    assert png is not None
    picture = Image.open(io.BytesIO(png))
    assert np.asarray(picture.convert("RGB")).std() > 0
    return picture.size


def test_a_notebook_shows_images_as_one_grid(pipe: ImagePipeline) -> None:
    one, many = pipe(num_images=1), pipe(num_images=10)
    width, height = size_of(one._repr_png_())
    assert (width, height) == (96, 96)
    assert size_of(many._repr_png_()) == (8 * width + 14, 2 * height + 2)
    assert Images()._repr_png_() is None


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_images_of_all_modes_are_shown(mode: str) -> None:
    picture = Image.linear_gradient("L").convert(mode)
    assert size_of(Images([picture, picture])._repr_png_()) == (514, 256)


def test_samples_of_a_model_are_shown_too(pipe: ImagePipeline) -> None:
    found = openunite.sample(pipe, 3)
    assert isinstance(found, Images)
    assert [image.size for image in found.images] == [(8, 8)] * 3
    assert size_of(found._repr_png_()) == (3 * 96 + 4, 96)
    structures = openunite.sample(build("molecule"), 2, num_inference_steps=2)
    assert isinstance(structures, Structures)
    assert size_of(structures._repr_png_()) == (440, 220)
    assert type(shown([torch.zeros(5)])) is list


def test_dir_lists_what_there_is() -> None:
    assert {"ImagePipeline", "sample", "train", "Run"} <= set(dir(openunite))
