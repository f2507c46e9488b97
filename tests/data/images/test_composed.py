"""Composed pictures: what is said of them is in them, and what is held out is not."""

import numpy as np
import pytest

from openunite.data.images.composed import (
    COLORS,
    GARMENTS,
    LARGEST,
    PLACES,
    Garment,
    composed,
    draw,
    is_held_out,
    scenes,
)

HELD_OUT = [
    (garment, color)
    for garment in range(len(GARMENTS))
    for color in range(len(COLORS))
    if is_held_out(garment, color)
]


def test_two_fifths_of_the_pairs_never_occur() -> None:
    assert len(HELD_OUT) == 24
    for split in ("train", "test"):
        found = {(g.garment, g.color) for scene in scenes(split) for g in scene.garments}
        assert found == {(g, c) for g in range(10) for c in range(6) if (g, c) not in HELD_OUT}
    garments = draw(np.random.default_rng(0), 2, held_out=True)
    assert all((g.garment, g.color) in HELD_OUT for g in garments)


def test_every_garment_is_in_its_quadrant_in_its_color() -> None:
    for scene in scenes("test")[:200]:
        parts = scene.pixels.reshape(2, LARGEST, 2, LARGEST, 3).swapaxes(1, 2).reshape(4, -1, 3)
        filled = {i for i, part in enumerate(parts) if part.any()}
        assert filled == {g.place for g in scene.garments}
        for garment in scene.garments:
            found = parts[garment.place].astype(float).sum(0)
            wanted = np.array(list(COLORS.values())[garment.color])
            cosine = found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)
            assert cosine > 0.99


def test_captions_name_all_that_is_there() -> None:
    for scene in scenes("test")[:200]:
        for garment in scene.garments:
            words = (GARMENTS[garment.garment], list(COLORS)[garment.color], PLACES[garment.place])
            assert all(word in scene.caption for word in words)
    assert Garment(8, 0, 0).words("a {color} {garment} {place}") == "a red bag top left"


def test_the_source_has_captions_and_a_test_split() -> None:
    source = composed()
    assert (len(source.items), int(source.held_out.sum())) == (13_000, 1_000)
    assert source.columns["caption"]()[12_000] == scenes("test")[0].caption
    assert np.array_equal(source.items.read(3), scenes("train")[3].pixels)
    counts = [len(scene.garments) for scene in scenes("train")]
    assert np.mean(counts) == pytest.approx(1.5, abs=0.02)
