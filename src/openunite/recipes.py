"""Recipes: functions that return a `RunConfig` and state their cost and expected numbers."""

from openunite.modalities.atoms.recipes import (
    crystals,
    joint,
    joint_s,
    molecules,
    mp20_s,
    qm9,
    qm9_s,
)
from openunite.modalities.image.recipes import (
    cifar10,
    digits,
    fashion,
    imagenet256_b,
    imagenet256_l,
    imagenet256_xl,
    images,
    tiny_imagenet,
)

RECIPES = {
    recipe.__name__: recipe
    for recipe in (
        fashion,
        digits,
        images,
        cifar10,
        tiny_imagenet,
        imagenet256_b,
        imagenet256_l,
        imagenet256_xl,
        qm9,
        molecules,
        crystals,
        qm9_s,
        mp20_s,
        joint,
        joint_s,
    )
}

__all__ = ["RECIPES"]
