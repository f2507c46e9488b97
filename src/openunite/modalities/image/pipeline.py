"""ImagePipeline: one checkpoint that encodes, decodes and generates images."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from openunite.batch import Evidence
from openunite.data.images.pixels import BadImage, PixelSpec, image_to_array, open_image
from openunite.drawing.lists import Images as Pictures
from openunite.modalities.image.visible import read_mask, whole_patches
from openunite.pipelines.asked import Asked
from openunite.pipelines.base import UnitePipeline
from openunite.pipelines.inputs import (
    Generators,
    Labels,
    Seeds,
    count_of,
    one_each,
    seeds_of,
    whole_number,
)

OutputType = Literal["pil", "pt", "np"]
OneImage = Image.Image | str | Path | np.ndarray | Tensor
Images = OneImage | Sequence[OneImage]
Output = list[Image.Image] | Tensor | np.ndarray
_GENERATE = ("conditions", "observed", "mask", "paste")  # arguments that a call hands on


class ImagePipeline(UnitePipeline):
    """Generate, encode, decode and reconstruct images with one set of weights."""

    def __call__(
        self,
        class_labels: Labels = None,
        *,
        num_images: int | None = None,
        num_images_per_prompt: int | None = None,
        batch_size: int | None = None,
        generator: Generators | None = None,
        seeds: Seeds | None = None,
        output_type: OutputType = "pil",
        **options: Any,
    ) -> Output:
        """Generate `num_images` images, or as many as there are class labels or seeds.

        Labels are class indices or names, one per image, or one that is not in a list for all;
        `num_images_per_prompt` images are made of each. `batch_size` is the number of images at a
        time, and of all images if nothing else says that.
        Image i is a function of its own seed (`seeds[i]`, or drawn from `generator`, or from the
        i-th of a list of generators), never of the batch. `options` are those of `generate`:
        conditions, observed, mask, paste, callback, and changes of `self.sampling`, see
        `sample_latents`. Returns a list of PIL images with the attribute `images`, a float tensor
        (B, channels, H, W) in [0, 1] ("pt") or an array (B, H, W, channels) ("np"). Raises
        ValueError for a label or a setting out of range, and for an unknown argument.
        """
        self.refuse_unknown(options, type(self).__call__, *_GENERATE)
        _check_output(output_type)
        many = None if batch_size is None else whole_number("batch_size", batch_size)
        others = (seeds, generator) if num_images_per_prompt is None else ()
        count = count_of("num_images", num_images, class_labels, *others, default=many or 1)
        if num_images_per_prompt is not None:
            each = whole_number("num_images_per_prompt", num_images_per_prompt)
            labels = (
                class_labels if class_labels is None else one_each("class", class_labels, count)
            )
            class_labels = labels and [label for label in labels for _ in range(each)]
            count *= each
        chosen = seeds_of(count, generator, seeds)
        images = self.generate(class_labels, seeds=chosen, batch_size=many, **options)
        return _as_output(images, output_type)

    def generate(
        self,
        class_labels: Labels,
        *,
        seeds: Seeds,
        conditions: Asked = None,
        observed: Images | None = None,
        mask: Any = None,
        paste: bool = False,
        batch_size: int | None = None,
        **options: Any,
    ) -> Float[Tensor, "b c h w"]:
        """What `__call__` does, from one seed per image to a tensor (B, channels, H, W).

        `conditions` name values, one for all images or a list with one for each: 4.2, (4, 5).
        `observed` are images of which the pixels are known where `mask` is True, booleans (H, W) or
        (B, H, W), or an image that is white there. Patches that are known whole are shown to the
        network. `paste` puts all known pixels into the result. Only models trained with
        `objective.partial_share` follow what they see.
        """
        self.refuse_unknown(options, type(self).generate)
        count = count_of("seeds", None, seeds)
        evidence = self._evidence(class_labels, count, conditions)
        given = seeds_of(count, None, seeds)
        many = count if batch_size is None else whole_number("batch_size", batch_size)
        if observed is None and mask is None and not paste:
            return self._drawn(evidence, given, many, options)
        pixels, known = self.known(observed, mask, count)
        pixels, known = pixels.expand(count, -1, -1, -1), known.expand(count, -1, -1)
        patch = self.modality.settings.patch_size
        visible = whole_patches(known, patch)
        if not bool(visible.any()):
            warnings.warn(
                f"no patch of {patch} x {patch} pixels is known whole, so nothing of the image is "
                "shown to the network",
                stacklevel=2,
            )
        evidence = replace(evidence, observation=pixels, visible=visible)
        images = self._drawn(evidence, given, many, options)
        return torch.where(known[:, None], pixels, images) if paste else images

    def _drawn(
        self, evidence: Evidence, seeds: Tensor, batch_size: int, options: dict[str, Any]
    ) -> Float[Tensor, "b c h w"]:
        """Images of these seeds, `batch_size` at a time."""
        parts = [slice(i, i + batch_size) for i in range(0, len(seeds), batch_size)]
        latents = (self.sample_latents(evidence.rows(p), seeds[p], **options) for p in parts)
        return torch.cat([self.decode_tensor(part) for part in latents])

    # ---- tokenizing -----------------------------------------------------------------------

    def encode(self, images: Images, generator: Generators | None = None) -> Float[Tensor, "b k c"]:
        """Images -> latents (B, K, C), deterministic unless a generator is given.

        One image or many: PIL images and files of any size and mode, arrays (H, W, channels) or
        tensors (channels, H, W) of the model's size, in [0, 1] or uint8, or a batch of either.
        """
        return self.tokenize(self.preprocess(images), generator)

    def decode(self, latents: Float[Tensor, "b k c"], output_type: OutputType = "pil") -> Output:
        """Latents (B, K, C) -> images, clamped to [0, 1]."""
        return _as_output(self.decode_tensor(latents), output_type)

    def decode_tensor(self, latents: Float[Tensor, "b k c"]) -> Float[Tensor, "b c h w"]:
        """`decode` to a float tensor in [0, 1]."""
        return self.detokenize(latents).clamp(0.0, 1.0)

    def reconstruct(self, images: Images, output_type: OutputType = "pil") -> Output:
        """decode(encode(images))."""
        return self.decode(self.encode(images), output_type=output_type)

    def interpolate(
        self, first: Images, second: Images, num_images: int = 8, output_type: OutputType = "pil"
    ) -> Output:
        """Decode `num_images` points on the line between two images' latents, ends included."""
        whole_number("num_images", num_images)
        start, end = self.encode(first), self.encode(second)
        if len(start) != 1 or len(end) != 1:
            raise ValueError(f"expected one image at each end, got {len(start)} and {len(end)}")
        weights = torch.linspace(0.0, 1.0, num_images, device=start.device)[:, None, None]
        return self.decode(torch.lerp(start, end, weights), output_type=output_type)

    # ---- inputs ---------------------------------------------------------------------------

    def known(
        self, observed: Any, mask: Any, count: int
    ) -> tuple[Float[Tensor, "n c h w"], Bool[Tensor, "m h w"]]:
        """Images, and which of their pixels are known: one of each for all samples, or `count`.

        ValueError for what cannot be completed.
        """
        tokenizer, denoiser = self.encoder.networks()
        if tokenizer is not denoiser:
            raise ValueError("a model with a second network for tokenizing cannot complete images")
        if mask is None or observed is None:
            raise ValueError("observed and mask belong together: give both, or neither")
        shape = self.modality.settings
        found, pixels = read_mask(mask, shape.height, shape.width), self.preprocess(observed)
        allowed = {(shape.height, shape.width), (count, shape.height, shape.width)}
        allowed |= {(1, shape.height, shape.width)}
        if found.dtype != torch.bool or tuple(found.shape) not in allowed:
            raise ValueError(
                f"expected a mask of booleans ({shape.height}, {shape.width}), one for each of "
                f"{count} images, or an image that is white where pixels are known, got "
                f"{tuple(found.shape)} of {found.dtype}"
            )
        if len(pixels) not in (1, count):
            raise ValueError(f"expected one observed image, or {count}, got {len(pixels)}")
        return pixels, found.to(self._execution_device).reshape(-1, shape.height, shape.width)

    def preprocess(self, images: Images) -> Float[Tensor, "b c h w"]:
        """Images as the model takes them; PIL images are resized and center-cropped to its size."""
        shape = self.modality.settings
        spec = PixelSpec(shape.height, shape.width, shape.channels)
        if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
            parts = [_pixels(images, spec)]
        elif isinstance(images, Sequence) and not isinstance(images, str):
            parts = [_pixels(image, spec)[None] for image in images]
        else:
            parts = [_pixels(images, spec)[None]]
        if not sum(map(len, parts)):
            raise ValueError("expected at least one image, got none")
        pixels = torch.cat([part.to(self._execution_device) for part in parts])
        low, high = float(pixels.min()), float(pixels.max())
        if not math.isfinite(low + high):
            raise ValueError("pixel values must be numbers, got NaN or infinity; leave them out")
        if low < 0.0 or high > 1.0:
            raise ValueError(
                f"pixel values must lie in [0, 1] (or be uint8), got {low:.3g} to {high:.3g}; do "
                "not normalize the images"
            )
        return pixels


def _pixels(image: Any, spec: PixelSpec) -> Tensor:
    """One image (C, H, W), or a batch (B, C, H, W) as array or tensor, as floats."""
    if isinstance(image, str | Path):
        try:
            image = open_image(Path(image).read_bytes())
        except BadImage as error:
            raise ValueError(f"{image}: {error}") from error
    if isinstance(image, Image.Image):
        return torch.tensor(image_to_array(image, spec)).float() / 255.0
    wanted, hint = spec.shape, "; PIL images may have any size"
    if isinstance(image, np.ndarray):
        wanted, hint = (spec.height, spec.width, spec.channels), hint + ", arrays end with channels"
        shape = image.shape
        image = image[..., None] if shape == wanted[:2] and spec.channels == 1 else image
        image = _as_tensor(image)
        if tuple(image.shape[-3:]) == wanted:
            image, wanted = image.movedim(-1, -3), spec.shape
    elif not isinstance(image, Tensor):
        raise ValueError(
            f"expected images, paths, arrays or tensors, got a {type(image).__name__:.100}"
        )
    if image.ndim not in (3, 4) or tuple(image.shape[-3:]) != wanted:
        raise ValueError(f"expected images of shape {wanted}, got {tuple(image.shape)}{hint}")
    if image.dtype == torch.uint8:
        return image.float() / 255.0
    if not image.is_floating_point():
        raise ValueError(
            f"expected pixels as uint8 or as floats in [0, 1], got {image.dtype}; divide them by "
            "the largest value that they can have"
        )
    return image.float()


def _as_tensor(array: np.ndarray) -> Tensor:
    """A copy, which may be read-only, of any byte order, or strided backwards."""
    if array.dtype.kind not in "biufc":
        raise ValueError(f"expected pixels as numbers, got {array.dtype}")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def _check_output(output_type: str) -> None:
    if output_type not in get_args(OutputType):
        raise ValueError(f"output_type must be 'pil', 'pt' or 'np', got {output_type!r}")


def _as_output(images: Float[Tensor, "b c h w"], output_type: OutputType) -> Output:
    """The same images as PIL, tensor or array. ValueError for another type."""
    _check_output(output_type)
    if output_type == "pt":
        return images
    array = images.permute(0, 2, 3, 1).cpu().numpy()
    if output_type == "np":
        return array
    pixels = (array * 255.0).round().astype(np.uint8)
    return Pictures(Image.fromarray(p[:, :, 0] if p.shape[2] == 1 else p) for p in pixels)
