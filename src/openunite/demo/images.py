"""The demo of a model of images."""

from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from openunite.data.images.pixels import BadImage, open_image
from openunite.demo.forms import Form
from openunite.demo.shows import WALK, Answer, Show, Shown
from openunite.drawing.pictures import image_grid
from openunite.training.config import MEMORY

_SEARCHED = 20_000  # training images, evenly spaced, among which the nearest are searched
_AT_ONCE = 500
_COMPLETIONS = 6
_NEAREST = 6


class ImageShow(Show):
    """Images: also completed from a half, and beside the nearest training images."""

    accepts = ("image/*",)

    @property
    def actions(self) -> dict[str, Any]:
        found = super().actions
        if self.config is not None and self.config.objective.partial_share > 0.0:
            found["complete"] = self.complete
        if self.config is not None and self.config.data.source != MEMORY:
            found["nearest"] = self.nearest
        return found

    def _draw(self, form: Form, count: int, label: int | None, seed: int) -> Tensor:
        """Samples (B, C, H, W) of one class, or of all in turn."""
        seeds = [seed + i for i in range(count)]
        options = {"conditions": form.conditions, **form.changes}
        found: Tensor = self.pipeline.generate(self.labels(label, count), seeds=seeds, **options)
        return found.cpu()

    def sample(self, form: Form) -> Answer:
        images = self._draw(form, form.count, form.label, form.seed)
        shown = []
        for image, choice in zip(images, self.choices(form, form.count), strict=True):
            label = _join(self.label_of(choice["label"]), f"seed {choice['seed']}")
            shown.append(Shown(_picture(image), label, choice=choice))
        return Answer(
            shown, f"{len(shown)} new images, made up by the model: click on one to go on."
        )

    def steps(self, form: Form) -> Answer:
        labels = self.labels(form.label, 1)

        def draw(callback: Any) -> None:
            options = {"conditions": form.conditions, **form.changes, "callback": callback}
            self.pipeline.generate(labels, seeds=[form.seed], **options)

        states = self.follow(draw, form.seed)
        images = self.pipeline.decode_tensor(torch.cat(list(states.values()))).cpu()
        shown = [Shown(_picture(x), label) for label, x in zip(states, images, strict=True)]
        name = self.label_of(labels[0]) if labels else "an image"
        return Answer(shown, f"From noise to {name}: move the slider.", "steps")

    def reconstruct(self, form: Form) -> Answer:
        before, after = self.task.reconstruct(self.pipeline, [_uploaded(form)])
        off = float((before[0] - after[0]).abs().mean()) * 100.0
        (registers, channels), held = self.pipeline.latent_shape, before[0].numel()
        words = (
            f"The model turns the {held:,} numbers of your picture into {registers * channels:,} "
            f"and paints it again from these; a pixel is off by {off:.1f} % on average."
        )
        pair = [Shown(_picture(before[0]), "your picture, at the model's size")]
        return Answer([*pair, Shown(_picture(after[0]), "painted again")], words, "row")

    def walk(self, form: Form) -> Answer:
        ends = [
            self._draw(form, 1, form.label, form.seed),
            self._draw(form, 1, form.other_label, form.other_seed),
        ]
        images = self.pipeline.interpolate(*ends, WALK, output_type="pt").cpu()
        share = 100 / (WALK - 1)
        shown = [Shown(_picture(x), f"{i * share:.0f} %") for i, x in enumerate(images)]
        return Answer(shown, "Each picture lies a little further on the way.", "steps")

    def complete(self, form: Form) -> Answer:
        """Half of a picture, completed in several ways."""
        if form.upload is None:
            pixels = self._draw(form, 1, form.label, form.seed)
        else:
            pixels = self.pipeline.preprocess([_uploaded(form)]).cpu()
        known = _half(pixels, form.half)
        images = self.pipeline.generate(
            None if form.label is None else self.labels(form.label, _COMPLETIONS),
            seeds=[form.seed + i for i in range(_COMPLETIONS)],
            observed=pixels,
            mask=known,
            paste=True,
            conditions=form.conditions,
            **form.changes,
        ).cpu()
        shown = [Shown(_picture(torch.where(known, pixels[0], 0.5)), "what the model sees")]
        shown += [
            Shown(_picture(x), f"completed, seed {form.seed + i}") for i, x in enumerate(images)
        ]
        return Answer(shown, "The same half, completed in different ways.")

    def nearest(self, form: Form) -> Answer:
        """A sample, and the training images that look most like it."""
        image, training = self._draw(form, 1, form.label, form.seed), self._training
        distances = torch.cat([_distance(image, part) for part in training])
        order = distances.argsort()[:_NEAREST].tolist()
        shown = [Shown(_picture(image[0]), "the sample")]
        for place in order:
            pixels = training[place // _AT_ONCE][place % _AT_ONCE].float() / 255.0
            shown.append(Shown(_picture(pixels), f"distance {float(distances[place]):.3f}"))
        words = (
            f"The most similar of {len(distances):,} training images; a copy would have a distance "
            "near 0."
        )
        return Answer(shown, words)

    @cached_property
    def _training(self) -> list[Tensor]:
        """Training images uint8 in blocks; FileNotFoundError or ValueError if they are gone."""
        assert self.config is not None
        data = self.task.open(self.config, self.config.data.source, progress=False).train
        rows = range(0, len(data), -(-len(data) // _SEARCHED))
        starts = range(0, len(rows), _AT_ONCE)
        return [data.batch(list(rows[i : i + _AT_ONCE])).data for i in starts]


def _uploaded(form: Form) -> Image.Image:
    """The visitor's picture. ValueError if it is none."""
    if form.upload is None:
        raise ValueError("choose a picture of yours first")
    try:
        return open_image(form.upload.content)
    except BadImage as error:
        raise ValueError(f"your file cannot be used: {error}") from error
    except MemoryError as error:
        raise ValueError("your picture is too large for this machine; shrink it") from error


def _half(pixels: Tensor, half: str) -> Tensor:
    """True (H, W) where pixels are kept."""
    height, width = pixels.shape[2:]
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    kept = {
        "left": columns < width // 2,
        "right": columns >= width // 2,
        "top": rows < height // 2,
        "bottom": rows >= height // 2,
    }
    return kept[half].expand(height, width)


def _distance(image: Tensor, part: Tensor) -> Tensor:
    """Root mean square distances of an image (1, C, H, W) to uint8 images."""
    apart = part.float() / 255.0 - image
    return apart.square().flatten(1).mean(1).sqrt()


def _picture(image: Tensor) -> Image.Image:
    """An image (C, H, W) in its own size."""
    return image_grid(image[None].contiguous(), columns=1, scale=1)


def _join(*parts: str) -> str:
    return ", ".join(filter(None, parts))
