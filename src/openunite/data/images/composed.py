"""Composed pictures: one or two colored garments on black, with captions that bind words to them.

48 x 48 RGB, made of the embedded Fashion-MNIST-mini. A garment of 20 to 24 pixels lies somewhere in
a quadrant of its own. 24 of the 60 pairs of garment and color, and four of the ten templates of
captions, never occur: they are for asking what was never seen together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from openunite.data.images.arrays import fashion_mnist_mini
from openunite.data.images.labels import Classes
from openunite.data.images.sources import MemoryItems, Pixels, Source

NAME = "composed"
SIDE, LARGEST, SMALLEST = 48, 24, 20
GARMENTS = (
    *("tee", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
COLORS = {
    "red": (255, 60, 60),
    "green": (60, 220, 60),
    "blue": (80, 100, 255),
    "yellow": (240, 220, 40),
    "pink": (255, 90, 220),
    "white": (255, 255, 255),
}
PLACES = ("top left", "top right", "bottom left", "bottom right")
TEMPLATES = (
    "a {color} {garment} {place}",
    "a {color} {garment} at the {place}",
    "{place} a {color} {garment}",
    "a {garment} in {color} {place}",
    "the {garment} {place} is {color}",
    "{color} {garment} {place}",
)
HELD_OUT_TEMPLATES = (
    "{place} is a {color} {garment}",
    "in {color} a {garment} {place}",
    "a {place} {garment} in {color}",
    "{garment} {color} at the {place}",
)
_SIZES = {"train": 12_000, "test": 1_000}


@dataclass(frozen=True)
class Garment:
    """One garment of a picture: indices into `GARMENTS`, `COLORS` and `PLACES`."""

    garment: int
    color: int
    place: int

    @property
    def is_held_out(self) -> bool:
        """Whether this garment never occurs in this color."""
        return is_held_out(self.garment, self.color)

    def words(self, template: str) -> str:
        """The garment in words."""
        color, place = list(COLORS)[self.color], PLACES[self.place]
        return template.format(garment=GARMENTS[self.garment], color=color, place=place)


@dataclass(frozen=True)
class Scene:
    """A picture (48, 48, 3), what is in it, and a caption."""

    pixels: Pixels
    garments: tuple[Garment, ...]
    caption: str


def is_held_out(garment: int, color: int) -> bool:
    """Two or three of the six colors of each garment, four of the ten garments of each color."""
    return (garment + color) % 5 < 2


def composed() -> Source:
    """12,000 pictures to train on and 1,000 of test garments, in the same pairs."""
    train, test = scenes("train"), scenes("test")
    every = [*train, *test]
    items = MemoryItems(np.stack([scene.pixels for scene in every]), "composed[{}]")
    held_out = np.arange(len(every)) >= len(train)
    labels = Classes.none(len(every)).labels
    captions = [scene.caption for scene in every]
    return Source(NAME, items, labels, (), held_out, columns={"caption": captions.copy})


@cache
def scenes(split: str) -> tuple[Scene, ...]:
    """All pictures of a split, always the same."""
    generator = np.random.default_rng([7, len(split)])
    pictures, labels = _garments(split)
    by_class = [np.flatnonzero(labels == k) for k in range(len(GARMENTS))]
    found = []
    for _ in range(_SIZES[split]):
        garments = draw(generator, int(generator.integers(1, 3)))
        chosen = [pictures[generator.choice(by_class[g.garment])] for g in garments]
        template = TEMPLATES[generator.integers(len(TEMPLATES))]
        pixels = paint(garments, chosen, generator)
        found.append(Scene(pixels, garments, caption_of(garments, template)))
    return tuple(found)


def draw(generator: np.random.Generator, count: int, held_out: bool = False) -> tuple[Garment, ...]:
    """Garments in different quadrants, all of pairs that occur, or all of those that do not."""
    pairs = [
        (garment, color)
        for garment in range(len(GARMENTS))
        for color in range(len(COLORS))
        if is_held_out(garment, color) == held_out
    ]
    places = generator.permutation(len(PLACES))[:count]
    chosen = [pairs[i] for i in generator.integers(len(pairs), size=count)]
    return tuple(
        Garment(garment, color, int(place))
        for (garment, color), place in zip(chosen, places, strict=True)
    )


def caption_of(garments: Sequence[Garment], template: str) -> str:
    """All garments in words: "a red bag top left and a blue sneaker bottom right"."""
    return " and ".join(garment.words(template) for garment in garments)


def paint(
    garments: Sequence[Garment], pictures: Sequence[Pixels], generator: np.random.Generator
) -> Pixels:
    """The picture (48, 48, 3) of gray garments (28, 28), each of a random size and place."""
    canvas = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    for garment, picture in zip(garments, pictures, strict=True):
        size = int(generator.integers(SMALLEST, LARGEST + 1))
        down, right = generator.integers(0, LARGEST - size + 1, size=2)
        gray = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR))
        color = np.array(list(COLORS.values())[garment.color])
        top, left = LARGEST * (garment.place // 2) + down, LARGEST * (garment.place % 2) + right
        painted = (gray[..., None] * color + 127) // 255
        canvas[top : top + size, left : left + size] = painted.astype(np.uint8)
    return canvas


def _garments(split: str) -> tuple[Pixels, np.ndarray]:
    """Gray pictures (N, 28, 28) of a split, and their classes."""
    source = fashion_mnist_mini()
    assert source.held_out is not None
    rows = np.flatnonzero(source.held_out == (split == "test"))
    pictures = np.stack([np.asarray(source.items.read(int(row))).reshape(28, 28) for row in rows])
    return pictures, source.labels[rows]
