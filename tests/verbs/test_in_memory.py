"""`encode` and `reconstruct` from Python, of what a program has in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import make_models
from tests.modalities.atoms.test_pipeline import build

from openunite import ImagePipeline
from openunite.verbs.encode import encode
from openunite.verbs.reconstruct import reconstruct


@pytest.fixture(scope="module")
def pipeline() -> ImagePipeline:
    models = make_models(image={"height": 8, "width": 8, "channels": 3, "patch_size": 4})
    return ImagePipeline(models.encoder.eval(), models.decoder.eval())


def image() -> Image.Image:
    return Image.new("RGB", (9, 12), (10, 128, 250))


class Pictures:
    """A data set as PyTorch has them: a length and items, no iterator."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> Image.Image:
        if i >= 2:
            raise IndexError
        return image()


def test_one_image_or_many_of_any_kind(pipeline: ImagePipeline, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image().save(path)
    small = np.asarray(image().resize((8, 8)))
    generated: Iterator[Any] = (picture for picture in (image(), str(path)))
    for given, count in (
        (image(), 1),
        (path, 1),
        ([image(), path], 2),
        (generated, 2),
        (Pictures(), 2),
        (np.stack([small, small, small]), 3),
        (torch.zeros(2, 3, 8, 8), 2),
    ):
        assert encode(pipeline, given, batch_size=np.int64(2))["latents"].shape == (count, 4, 6)
    expected = encode(pipeline, image())["latents"]
    assert np.array_equal(encode(pipeline, path)["latents"], expected)


def test_one_structure_of_another_package_is_one() -> None:
    molecules, atoms = build("molecule"), ase.Atoms("OHH", [[0, 0, 0], [0, 0, 1], [0, 1, 0]])
    inputs, outputs = reconstruct(molecules, atoms)
    assert [len(item) for item in inputs + outputs] == [3, 3]
    assert encode(molecules, [atoms, atoms])["num_atoms"].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([], {}, "expected some images, got none"),
        (iter(()), {}, "expected some images, got none"),
        ([image()], {"num_samples": 0}, "num_samples must be a whole number of at least 1, got 0"),
        ([3], {}, "item 0 is a int; expected a PIL image"),
        (np.full((1, 8, 8, 3), np.nan), {}, "or floats in .0, 1., got float64 from nan to nan"),
    ],
)
def test_what_cannot_be_reconstructed_is_one_sentence(
    pipeline: ImagePipeline, data: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        reconstruct(pipeline, data, **options)


def test_a_picture_of_pairs_shows_what_a_person_can_look_at(
    pipeline: ImagePipeline, tmp_path: Path
) -> None:
    inputs, outputs = reconstruct(pipeline, torch.zeros(300, 3, 8, 8), output=tmp_path / "a.png")
    assert len(inputs) == len(outputs) == 300
    shown = Image.open(tmp_path / "a.png").height
    reconstruct(pipeline, torch.zeros(256, 3, 8, 8), output=tmp_path / "b.png")
    assert shown == Image.open(tmp_path / "b.png").height
