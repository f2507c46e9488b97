"""The judge of composed pictures: what it is asked, and what it says of pictures that are known."""

import numpy as np
import pytest
import torch
from benchmarks.composed import Judge, Seen, asked_for, quadrants, single_words

from openunite.data.images.composed import Garment, is_held_out, scenes


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    pixels = np.stack([scene.pixels for scene in scenes("test")[:100]])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255.0


def test_quadrants_are_in_the_order_of_the_places() -> None:
    image = torch.zeros(1, 3, 48, 48)
    image[0, :, :24, 24:] = 1.0
    assert quadrants(image).mean(dim=(2, 3, 4)).tolist() == [[0.0, 1.0, 0.0, 0.0]]


def test_color_and_place_of_real_pictures_are_seen(pictures: torch.Tensor) -> None:
    seen, told = Seen(Judge().eval(), pictures), [s.garments for s in scenes("test")[:100]]
    rates = seen.rates(told)
    assert rates["color"] > 0.97
    assert rates["place"] > 0.9
    assert seen.binding(told) > 0.97
    swapped = [
        (Garment(a.garment, b.color, a.place), Garment(b.garment, a.color, b.place))
        for row in told
        if len(row) == 2
        for a, b in [row]
    ]
    both = [i for i, row in enumerate(told) if len(row) == 2]
    assert Seen(Judge().eval(), pictures[both]).binding(swapped) < 0.03


def test_what_is_asked_is_held_out_or_not() -> None:
    for held_out in (False, True):
        garments, captions = asked_for(40, held_out)
        assert {is_held_out(g.garment, g.color) for row in garments for g in row} == {held_out}
        assert [len(row) for row in garments] == [1, 2] * 20
        assert len(set(captions)) > 30
    assert single_words(18)[:2] == ["tee", "trouser"]
