"""In-painting: `python -m benchmarks.inpainting --runs RUN [RUN ...]` completes test images.

    openunite train fashion --set objective.partial_share=0.34 --seed 0 --output runs/partial-0
    python -m benchmarks.inpainting --runs runs/partial-0

Half of each image is hidden: a half of it, or patches in random places. Known pixels are pasted
back in every row, so that rows differ in the hidden part alone:

- `model`: the network sees the known patches; `with_class` it knows the class as well;
- `unconditional`: a sample of the same network that knows nothing;
- `gradient`: such a sample, whose predicted latents are pulled at each step towards what the
  decoder needs for the known pixels; its strength was chosen on training images;
- `nearest`: the hidden part of the training image that is nearest in the known part;
- `reconstruction`: what the tokenizer and the decoder make of the whole image;
- `mean`: the mean of the training images; `fd_real` is that of as many training images.

Writes benchmarks/results/evidence_inpainting.json, one seed for each run. The same command goes on
where it was stopped.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.evidence import (
    Bench,
    batches,
    half_images,
    hidden_psnr,
    options,
    record,
    visible_patches,
)
from openunite.batch import NOTHING
from openunite.flow.random import seeded_normal
from openunite.flow.solvers import solve
from openunite.modalities.image.pipeline import ImagePipeline

STRENGTHS = (0.01, 0.03, 0.1, 0.3)
_PULLS = 3  # gradient steps at each step of the solver
_TUNED = 200  # training images on which the strength is chosen


def main() -> None:
    given = options()
    record("evidence_inpainting", given.runs, "inpainting", given.count, measure)


def measure(bench: Bench, known: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The values of both kinds of masks, a row of the table at a time, as far as not known."""
    count, size = len(bench.images), bench.grid[0] * bench.grid[1]
    masks = {
        "half": half_images(bench.grid, count),
        "scattered": visible_patches(bench.grid, count, size // 2),
    }
    for kind, patches in masks.items():
        found = dict(known.get(kind, {}))
        for name, make in rows_of(bench, bench.pixels(patches)).items():
            if f"fd_{name}" not in found:
                found |= values(bench, bench.pixels(patches), name, make())
                yield {kind: found}


def rows_of(bench: Bench, known: Tensor) -> dict[str, Callable[[], Tensor]]:
    """How to make the images of each row of the table."""
    return {
        "model": lambda: bench.sample(known=known),
        "with_class": lambda: bench.sample(known=known, labels=bench.labels),
        "unconditional": lambda: bench.sample(),
        "gradient": lambda: by_gradient(bench.pipeline, bench.images, known, tuned(bench, known)),
        "nearest": lambda: nearest(bench.images, bench.train, known),
        "reconstruction": lambda: reconstruct(bench),
        "mean": lambda: bench.train.mean(0, keepdim=True).expand_as(bench.images),
        "real": lambda: bench.train[: len(bench.images)],
    }


def values(bench: Bench, known: Tensor, name: str, images: Tensor) -> dict[str, Any]:
    """dB of the hidden part, Frechet distance and accuracy of one row."""
    if name == "real":
        return {"fd_real": bench.fd(images)}
    pasted = torch.where(known[:, None], bench.images, images)
    own, pooled = hidden_psnr(pasted, bench.images, known)
    found = {f"psnr_{name}": own, f"psnr_pooled_{name}": pooled}
    found |= {f"fd_{name}": bench.fd(pasted), f"accuracy_{name}": bench.accuracy(pasted)}
    return found | ({"psnr_hidden": own} if name == "model" else {})


def nearest(images: Tensor, train: Tensor, known: Tensor) -> Tensor:
    """For each image the training image with the smallest squared error in the known pixels."""
    found = []
    for image, mask in zip(images, known, strict=True):
        error = (train[:, :, mask] - image[:, mask]).square().flatten(1).sum(1)
        found.append(train[error.argmin()])
    return torch.stack(found)


def reconstruct(bench: Bench) -> Tensor:
    pipe = bench.pipeline
    parts = (bench.images[rows] for rows in batches(len(bench.images)))
    return torch.cat([pipe.decode_tensor(pipe.encode(part)) for part in parts])


def tuned(bench: Bench, known: Tensor) -> float:
    """The strength with the best hidden part on training images."""
    train, masks = bench.train[-_TUNED:], known[:_TUNED]
    train = train[: len(masks)]

    def quality(strength: float) -> float:
        return hidden_psnr(by_gradient(bench.pipeline, train, masks, strength), train, masks)[0]

    return max(STRENGTHS, key=quality)


def by_gradient(pipe: ImagePipeline, images: Tensor, known: Tensor, strength: float) -> Tensor:
    """Unconditional samples, pulled towards the known pixels by the gradient of the decoder."""
    plain = pipe.denoiser(NOTHING, 1.0, (0.0, 1.0))

    def part(rows: slice) -> Tensor:
        target, mask = images[rows], known[rows, None]

        def pulled(z: Tensor, t: Tensor) -> Tensor:
            with torch.no_grad():
                latents = plain(z, t)
            for _ in range(_PULLS):
                latents = latents.detach().requires_grad_()
                error = ((pipe.decoder(latents) - target).square() * mask).sum()
                latents = latents - strength * torch.autograd.grad(error, latents)[0]
            return latents.detach()

        seeds = torch.arange(rows.start, rows.stop)
        shape = pipe.latent_shape
        noise = seeded_normal(seeds, *shape)
        renewed = lambda step: seeded_normal(seeds, *shape, draw=step)  # noqa: E731
        return pipe.decode_tensor(solve(pulled, noise, pipe.sampling, noise_sampler=renewed))

    return torch.cat([part(rows) for rows in batches(len(images))])


if __name__ == "__main__":
    main()
