"""ImagePipeline: one checkpoint that encodes, decodes and generates images."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from openunite.flow.guidance import guide
from openunite.flow.random import seeded_normal
from openunite.flow.solvers import Callback, Solver, solve
from openunite.modalities.image.pixels import PixelSpec, image_to_array
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import GenerativeEncoder

OutputType = Literal["pil", "pt", "np"]
Images = Sequence[Image.Image] | Image.Image | np.ndarray | Tensor
Output = list[Image.Image] | Tensor | np.ndarray
Labels = Sequence[int | str] | Tensor | None
Generators = torch.Generator | Sequence[torch.Generator]
FORMAT_VERSION = 1
_ENCODE_SEED = 0  # tokenizing draws its register noise from this seed, the same at every place


class ImagePipeline(DiffusionPipeline):
    """Generate, encode, decode and reconstruct images with one set of weights.

    The settings are the defaults of sampling; each call can override them. Saved and loaded with
    `save_pretrained`, `push_to_hub` and `ImagePipeline.from_pretrained` (a path or a hub id;
    `diffusers.DiffusionPipeline.from_pretrained` does not know classes of other packages).
    """

    def __init__(
        self,
        encoder: GenerativeEncoder,
        decoder: Decoder,
        solver: str = "heun",
        num_inference_steps: int = 50,
        time_shift: float = 1.0,
        guidance_scale: float = 1.0,
        guidance_interval: tuple[float, float] | list[float] = (0.1, 1.0),
        class_names: list[str] | None = None,
        format_version: int = FORMAT_VERSION,
    ) -> None:
        super().__init__()
        if format_version > FORMAT_VERSION:
            raise ValueError(
                f"this pipeline has format {format_version}, this openunite reads up to "
                f"{FORMAT_VERSION}; upgrade openunite"
            )
        self.register_modules(encoder=encoder, decoder=decoder)
        self.register_to_config(
            solver=solver,
            num_inference_steps=num_inference_steps,
            time_shift=time_shift,
            guidance_scale=guidance_scale,
            guidance_interval=list(guidance_interval),
            class_names=list(class_names or ()),
            format_version=format_version,
        )

    # ---- generating -----------------------------------------------------------------------

    def __call__(
        self,
        class_labels: Labels = None,
        *,
        num_images: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        solver: Solver | None = None,
        generator: Generators | None = None,
        seeds: Sequence[int] | None = None,
        output_type: OutputType = "pil",
        callback: Callback | None = None,
    ) -> Output:
        """Generate one image per class label, or `num_images` without a class.

        Labels are class indices or names. Image i is a function of its own seed (`seeds[i]`, or
        drawn from `generator`, or from the i-th of a list of generators), never of the batch.
        Returns PIL images, a float tensor (B, channels, H, W) in [0, 1] ("pt") or an array
        (B, H, W, channels) ("np"). Raises ValueError for a label or a setting out of range.
        """
        count = num_images if class_labels is None else len(class_labels)
        images = self.generate(
            class_labels,
            seeds=self._seeds(count, generator, seeds).tolist(),
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            guidance_interval=guidance_interval,
            solver=solver,
            callback=callback,
        )
        return _as_output(images, output_type)

    @torch.no_grad()
    def generate(
        self,
        class_labels: Labels,
        *,
        seeds: Sequence[int],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        solver: Solver | None = None,
        callback: Callback | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """What `__call__` does, from one seed per image to a tensor (B, channels, H, W)."""
        settings = self.config
        labels = self._labels(class_labels, len(seeds))
        noise = seeded_normal(self._seeds(len(labels), None, seeds), *self.latent_shape)
        scale = settings.guidance_scale if guidance_scale is None else guidance_scale
        low, high = guidance_interval or settings.guidance_interval
        steps = num_inference_steps
        latents = solve(
            self.denoiser(labels, scale, (low, high)),
            noise.to(self.device),
            solver=solver or settings.solver,
            num_steps=settings.num_inference_steps if steps is None else steps,
            shift=settings.time_shift,
            callback=callback,
        )
        return self.decode_tensor(latents)

    def denoiser(
        self, labels: Int[Tensor, " b"], scale: float, interval: tuple[float, float]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Equation (4) as a function of (z_t, t), with guidance where `scale` is not 1."""

        def conditional(z_t: Tensor, t: Tensor) -> Tensor:
            return self.encoder(z_t, t, labels)

        def unconditional(z_t: Tensor, t: Tensor) -> Tensor:
            return self.encoder(z_t, t, None)

        return guide(conditional, unconditional, scale, interval)

    # ---- tokenizing -----------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, images: Images, generator: Generators | None = None) -> Float[Tensor, "b k c"]:
        """Equation (1) at t = 0: images -> latents (B, K, C).

        PIL images of any size and mode, arrays (B, H, W, channels) or tensors (B, channels, H, W),
        both in [0, 1] or uint8. Deterministic: the register noise comes from one fixed seed, the
        same at every batch position, unless a generator is given.
        """
        pixels = self.preprocess(images)
        batch = len(pixels)
        if generator is None:
            noise = seeded_normal(torch.tensor([_ENCODE_SEED]), *self.latent_shape)
            noise = noise.expand(batch, -1, -1)
        else:
            noise = seeded_normal(self._seeds(batch, generator, None), *self.latent_shape)
        t = torch.zeros(batch, device=self.device)
        return self.encoder(noise.to(self.device), t, None, pixels)

    def decode(self, latents: Float[Tensor, "b k c"], output_type: OutputType = "pil") -> Output:
        """Equation (2): latents (B, K, C) -> images, clamped to [0, 1]."""
        return _as_output(self.decode_tensor(latents), output_type)

    @torch.no_grad()
    def decode_tensor(self, latents: Float[Tensor, "b k c"]) -> Float[Tensor, "b c h w"]:
        """`decode` to a float tensor in [0, 1]."""
        images: Tensor = self.decoder(latents.to(self.device)).float().clamp(0.0, 1.0)
        return images

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

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(K, C)."""
        return self.encoder.config.num_registers, self.encoder.config.latent_channels

    def preprocess(self, images: Images) -> Float[Tensor, "b c h w"]:
        """Images as the model takes them; PIL images are resized and center-cropped to its size."""
        shape = self.encoder.config.modality_config
        if isinstance(images, Image.Image):
            images = [images]
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(images).permute(0, 3, 1, 2)
        if isinstance(images, Tensor):
            pixels = images.float() / 255.0 if images.dtype == torch.uint8 else images.float()
        else:
            spec = PixelSpec(shape["height"], shape["width"], shape["channels"])
            arrays = np.stack([image_to_array(image, spec) for image in images])
            pixels = torch.from_numpy(arrays).float() / 255.0
        if pixels.numel() and not (float(pixels.min()) >= 0.0 and float(pixels.max()) <= 1.0):
            raise ValueError(
                f"pixel values must lie in [0, 1] (or be uint8), got {float(pixels.min()):.3g} to "
                f"{float(pixels.max()):.3g}; do not normalize the images"
            )
        return pixels.to(self.device)

    def _labels(self, labels: Any, num_images: int) -> Int[Tensor, " b"]:
        num_classes, names = self.encoder.config.num_classes, list(self.config.class_names)
        if labels is None:
            return torch.full((num_images,), num_classes, device=self.device)
        if isinstance(labels, Tensor):
            labels = labels.tolist()
        if unknown := [x for x in labels if isinstance(x, str) and x not in names]:
            raise ValueError(f"unknown class {unknown[0]!r}, expected one of {names}")
        indices = [names.index(x) if isinstance(x, str) else int(x) for x in labels]
        if bad := [i for i in indices if not 0 <= i < num_classes]:
            raise ValueError(
                f"class label {bad[0]} is out of range: this model has {num_classes} classes"
                + ("; leave class_labels out" if num_classes == 0 else "")
            )
        return torch.tensor(indices, dtype=torch.int64, device=self.device)

    @staticmethod
    def _seeds(
        count: int, generator: Generators | None, seeds: Sequence[int] | None
    ) -> Int[Tensor, " b"]:
        """One 63-bit seed per image."""
        if seeds is not None:
            if len(seeds) != count:
                raise ValueError(f"expected one seed per image, got {len(seeds)} for {count}")
            return torch.as_tensor(seeds, dtype=torch.int64)
        if generator is None or isinstance(generator, torch.Generator):
            device = generator.device if generator is not None else "cpu"
            return torch.randint(2**63 - 1, (count,), generator=generator, device=device).cpu()
        if len(generator) != count:
            raise ValueError(
                f"expected one generator per image, got {len(generator)} for {count} images"
            )
        return torch.tensor([int(torch.randint(2**63 - 1, (), generator=g)) for g in generator])


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
