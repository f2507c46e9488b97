"""ImagePipeline: one checkpoint that encodes, decodes and generates images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from openunite.data.images.pixels import PixelSpec, image_to_array
from openunite.modalities.image.visible import whole_patches
from openunite.pipelines.asked import Asked
from openunite.pipelines.base import Generators, Labels, UnitePipeline

OutputType = Literal["pil", "pt", "np"]
Images = Sequence[Image.Image] | Image.Image | np.ndarray | Tensor
Output = list[Image.Image] | Tensor | np.ndarray


class ImagePipeline(UnitePipeline):
    """Generate, encode, decode and reconstruct images with one set of weights."""

    def __call__(
        self,
        class_labels: Labels = None,
        *,
        num_images: int = 1,
        generator: Generators | None = None,
        seeds: Sequence[int] | None = None,
        output_type: OutputType = "pil",
        **options: Any,
    ) -> Output:
        """Generate one image per class label, or `num_images` without a class.

        Labels are class indices or names. Image i is a function of its own seed (`seeds[i]`, or
        drawn from `generator`, or from the i-th of a list of generators), never of the batch.
        `options` are those of `generate`: conditions, observed, mask, paste, callback, and changes
        of `self.sampling`, see `sample_latents`. Returns PIL images, a float tensor
        (B, channels, H, W) in [0, 1] ("pt") or an array (B, H, W, channels) ("np"). Raises
        ValueError for a label or a setting out of range.
        """
        count = num_images if class_labels is None else len(class_labels)
        chosen = self._seeds(count, generator, seeds).tolist()
        return _as_output(self.generate(class_labels, seeds=chosen, **options), output_type)

    def generate(
        self,
        class_labels: Labels,
        *,
        seeds: Sequence[int],
        conditions: Asked = None,
        observed: Images | None = None,
        mask: Any = None,
        paste: bool = False,
        **options: Any,
    ) -> Float[Tensor, "b c h w"]:
        """What `__call__` does, from one seed per image to a tensor (B, channels, H, W).

        `conditions` name values, one for all images or a list with one for each: 4.2, (4, 5).
        `observed` are images of which the pixels are known where `mask` (H, W) or (B, H, W) is
        True; patches that are known whole are shown to the network. `paste` puts all known pixels
        into the result. Only models trained with `objective.partial_share` follow what they see.
        """
        count = len(seeds) if class_labels is None else len(class_labels)
        given = self._seeds(count, None, seeds)
        evidence = self._evidence(class_labels, conditions, count)
        if observed is None and mask is None:
            return self.decode_tensor(self.sample_latents(evidence, given, **options))
        if mask is None or observed is None:
            raise ValueError("observed and mask belong together: give both, or neither")
        known = self._known(mask, observed, count)
        pixels = self.preprocess(observed).expand(count, -1, -1, -1)
        visible = whole_patches(known, self.modality.settings.patch_size)
        evidence = replace(evidence, observation=pixels, visible=visible)
        images = self.decode_tensor(self.sample_latents(evidence, given, **options))
        return torch.where(known[:, None], pixels, images) if paste else images

    # ---- tokenizing -----------------------------------------------------------------------

    def encode(self, images: Images, generator: Generators | None = None) -> Float[Tensor, "b k c"]:
        """Images -> latents (B, K, C), deterministic unless a generator is given.

        PIL images of any size and mode, arrays (B, H, W, channels) or tensors (B, channels, H, W),
        both in [0, 1] or uint8.
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
        self, first: Images, second: Images, num_images: int, output_type: OutputType = "pil"
    ) -> Output:
        """Decode `num_images` points on the line between two images' latents, ends included."""
        start, end = self.encode(first), self.encode(second)
        weights = torch.linspace(0.0, 1.0, num_images, device=start.device)[:, None, None]
        return self.decode(torch.lerp(start, end, weights), output_type=output_type)

    # ---- inputs ---------------------------------------------------------------------------

    def _known(self, mask: Any, observed: Images, count: int) -> Bool[Tensor, "b h w"]:
        """Which pixels are known. ValueError for what cannot be completed."""
        tokenizer, denoiser = self.encoder.networks()
        if tokenizer is not denoiser:
            raise ValueError("a model with a second network for tokenizing cannot complete images")
        shape, known = self.modality.settings, torch.as_tensor(mask)
        number = 1 if isinstance(observed, Image.Image) else len(observed)
        allowed = {(shape.height, shape.width), (count, shape.height, shape.width)}
        if known.dtype != torch.bool or tuple(known.shape) not in allowed:
            raise ValueError(
                f"expected a mask of booleans ({shape.height}, {shape.width}), or one for each of "
                f"{count} images, got {tuple(known.shape)} of {known.dtype}"
            )
        if number not in (1, count):
            raise ValueError(f"expected one observed image, or {count}, got {number}")
        return known.to(self.device).expand(count, -1, -1)

    def preprocess(self, images: Images) -> Float[Tensor, "b c h w"]:
        """Images as the model takes them; PIL images are resized and center-cropped to its size."""
        shape = self.modality.settings
        if isinstance(images, Image.Image):
            images = [images]
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(images).permute(0, 3, 1, 2)
        if isinstance(images, Tensor):
            pixels = images.float() / 255.0 if images.dtype == torch.uint8 else images.float()
        else:
            spec = PixelSpec(shape.height, shape.width, shape.channels)
            arrays = np.stack([image_to_array(image, spec) for image in images])
            pixels = torch.from_numpy(arrays).float() / 255.0
        if pixels.numel() and not (float(pixels.min()) >= 0.0 and float(pixels.max()) <= 1.0):
            raise ValueError(
                f"pixel values must lie in [0, 1] (or be uint8), got {float(pixels.min()):.3g} to "
                f"{float(pixels.max()):.3g}; do not normalize the images"
            )
        return pixels.to(self.device)


def _as_output(images: Float[Tensor, "b c h w"], output_type: OutputType) -> Output:
    """The same images as PIL, tensor or array. ValueError for another type."""
    if output_type == "pt":
        return images
    array = images.permute(0, 2, 3, 1).cpu().numpy()
    if output_type == "np":
        return array
    if output_type != "pil":
        raise ValueError(f"output_type must be 'pil', 'pt' or 'np', got {output_type!r}")
    pixels = (array * 255.0).round().astype(np.uint8)
    return [Image.fromarray(p[:, :, 0] if p.shape[2] == 1 else p) for p in pixels]
