"""Evidence as a dial: `python -m benchmarks.dial --runs RUN [RUN ...]`, from no patch to all.

    openunite train fashion --set objective.partial_share=0.34 --seed 0 --output runs/partial-0
    python -m benchmarks.dial --runs runs/partial-0

A share of the patches of each test image, in random places, is shown to one network while it
samples, without a class and without pasting. At 0 this is generating, at 1 it is tokenizing in
20 steps; `tokenizer` is the one pass that tokenizing takes. For each share:

- `fd`: Frechet distance of the samples to the test images;
- `psnr` (dB, mean over images) and `error` (mean squared error) against the image that was shown;
- `spread`: standard deviation of a pixel between two samples of one image;
- `cka`: debiased linear CKA between the latents that were sampled and those of the tokenizer.

Writes benchmarks/results/evidence_dial.json, one seed for each run, and docs/pictures/dial.png. The
same command goes on where it was stopped.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.evidence import Bench, batches, options, record, visible_patches
from benchmarks.machine import RESULTS
from openunite.analysis.similarity import hsic_terms, ratio
from openunite.batch import Evidence
from openunite.drawing.figures import BLUE, GRAY, panels
from openunite.evaluation.images.metrics import psnr

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    given = options()
    record("evidence_dial", given.runs, "dial", given.count, measure)
    draw(RESULTS / "evidence_dial.json", RESULTS.parents[1] / "docs" / "pictures" / "dial.png")


def draw(results: Path, picture: Path) -> None:
    """Four curves over the share of patches shown, a line per seed; gray is the tokenizer."""
    seeds = json.loads(results.read_text())["seeds"].values()
    titles = {
        "fd": "FD-Fashion of samples",
        "psnr": "PSNR to the image, dB",
        "spread": "spread between two samples",
        "cka": "CKA with the tokenizer's latents",
    }
    figure, axes = panels(4, 12.0, 3.0)
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        for seed in seeds:
            axis.plot(seed["share"], seed[name], marker="o", color=BLUE)
            if name in seed["tokenizer"]:
                axis.axhline(seed["tokenizer"][name], color=GRAY, linestyle="--")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("share of patches shown")
    figure.savefig(picture)


def measure(bench: Bench, known: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A list for each quantity, which grows with the shares."""
    tokenized = torch.cat([bench.pipeline.encode(bench.images[r]) for r in every(bench)])
    if "tokenizer" not in known:
        yield {"tokenizer": quality(bench, tokenized) | {"cka": 1.0}}
    rows = {name: list(known.get(name, ())) for name in ("share", "fd", "psnr", "error", "cka")}
    rows["spread"] = list(known.get("spread", ()))
    for share in SHARES[len(rows["share"]) :]:
        for name, value in at(bench, share, tokenized).items():
            rows[name].append(value)
        yield rows


def at(bench: Bench, share: float, tokenized: Tensor) -> dict[str, float]:
    """One row: everything at one share."""
    count, size = len(bench.images), bench.grid[0] * bench.grid[1]
    visible = visible_patches(bench.grid, count, round(share * size))
    first, second = (sampled(bench, visible, 10**6 * k) for k in range(2))
    pair = [decoded(bench, latents) for latents in (first, second)]
    apart = (pair[0] - pair[1]).square().mean() / 2.0
    alike = [hsic_terms(first[r].flatten(1), tokenized[r].flatten(1)) for r in every(bench)]
    values = quality(bench, first) | {"spread": float(apart.sqrt())}
    return {"share": share, **values, "cka": float(ratio(torch.stack(alike).sum(0)))}


def quality(bench: Bench, latents: Tensor) -> dict[str, float]:
    """Distance to the test images as a set, and one by one."""
    images = decoded(bench, latents)
    return {
        "fd": bench.fd(images),
        "psnr": float(psnr(images, bench.images).mean()),
        "error": float((images - bench.images).square().mean()),
    }


def sampled(bench: Bench, visible: Tensor, seed: int) -> Tensor:
    """Latents of one sample for each test image of which some patches are seen."""
    pipe = bench.pipeline

    def part(rows: slice) -> Tensor:
        evidence = Evidence(observation=bench.images[rows], visible=visible[rows])
        return pipe.sample_latents(evidence, torch.arange(rows.start, rows.stop) + seed)

    return torch.cat([part(rows) for rows in every(bench)])


def decoded(bench: Bench, latents: Tensor) -> Tensor:
    return torch.cat([bench.pipeline.decode_tensor(latents[rows]) for rows in every(bench)])


def every(bench: Bench) -> Iterator[slice]:
    """All test images in parts."""
    return batches(len(bench.images))


if __name__ == "__main__":
    main()
