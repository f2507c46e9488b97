"""Captions that bind words to objects: `python -m benchmarks.composed --runs RUN [RUN ...]`.

    openunite train composed --seed 0 --output runs/composed-0
    python -m benchmarks.composed --runs runs/composed-0

Captions of pairs that occur in training, and of pairs that never do, half of them in templates
that never do either, are asked for one and two garments. A judge, trained here on the training
garments alone and never on samples, looks at each quadrant: is there a garment, which one, and of
which color? The same is asked of real pictures, of reconstructions, and of captions of one word:

- `accuracy_seen`, `accuracy_held_out`: the smallest of the shares of garments with the right
  garment, color and place; `accuracy_real` the same of real pictures;
- `binding`: the share of pictures of two garments of different colors that are both where they
  were asked for and whose colors are not swapped, of those that have the two colors at all;
- `coherence`: the share of samples of one word in which every garment is of one clean color and
  recognized with a probability of at least 0.8.

Writes benchmarks/results/evidence_composed.json, one seed for each run. The same command goes on
where it was stopped.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.evidence import batches, held, keep
from openunite.data.images.composed import (
    COLORS,
    GARMENTS,
    HELD_OUT_TEMPLATES,
    LARGEST,
    PLACES,
    TEMPLATES,
    Garment,
    caption_of,
    draw,
    scenes,
)
from openunite.runs import Run, load_pipeline

Asked = Sequence[Sequence[Garment]]
NAME = "evidence_composed"
_THERE = 0.02  # mean brightness of a quadrant that holds something
_CLEAN = 0.9  # cosine between a garment's color and the nearest of the six
_SURE = 0.8
_STEPS = 1500
_OFFERED = tuple(torch.tensor(rgb) / 255.0 for rgb in COLORS.values())


class Judge(nn.Module):
    """A small network that tells the garment in a gray quadrant (B, 1, 24, 24)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 32), (32, 64), (64, 96)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(96 * 9, len(GARMENTS)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the garments; brightness does not matter."""
        found: Tensor = self.layers(x / x.amax(dim=(1, 2, 3), keepdim=True).clamp_min(0.05))
        return found


def train_judge(steps: int = _STEPS) -> Judge:
    """A judge of the quadrants of training pictures."""
    torch.manual_seed(0)
    every = scenes("train")
    pictures = torch.from_numpy(np.stack([s.pixels for s in every])).permute(0, 3, 1, 2) / 255.0
    rows = [(i, g) for i, s in enumerate(every) for g in s.garments]
    crops = torch.stack([quadrants(pictures[i][None])[0, g.place] for i, g in rows])
    gray, labels = crops.amax(1, keepdim=True), torch.tensor([g.garment for _, g in rows])
    judge = Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(gray), (128,))
        batch = gray[chosen]
        batch = torch.where(torch.rand(128, 1, 1, 1) < 0.5, batch, batch.flip(3))
        loss = nn.functional.cross_entropy(judge(batch), labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return judge.eval()


def quadrants(images: Tensor) -> Tensor:
    """Images (B, 3, 48, 48) as quadrants (B, 4, 3, 24, 24) in the order of `PLACES`."""
    parts = images.unflatten(3, (2, LARGEST)).unflatten(2, (2, LARGEST))
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


class Seen:
    """What a judge sees in images: for each quadrant (B, 4) a garment, a color, or nothing."""

    @torch.no_grad()
    def __init__(self, judge: Judge, images: Tensor) -> None:
        parts = quadrants(images.float().cpu())
        flat = parts.flatten(0, 1)
        gray = flat.amax(1, keepdim=True)
        shares = judge(gray).softmax(1).unflatten(0, (len(images), len(PLACES)))
        self.there = parts.amax(2).mean(dim=(2, 3)) > _THERE
        self.garment, self.sure = shares.argmax(2), shares.amax(2)
        # The mean color of the pixels, weighted by their brightness, against the six.
        color = (flat * gray.square()).sum(dim=(2, 3))
        offered = nn.functional.normalize(torch.stack(_OFFERED), dim=1)
        alike = nn.functional.normalize(color, dim=1) @ offered.T
        alike = alike.unflatten(0, (len(images), len(PLACES)))
        self.color, self.clean = alike.argmax(2), alike.amax(2)

    def rates(self, asked: Asked) -> dict[str, float]:
        """Shares of the asked garments that are there as asked, and of whole pictures."""
        pairs = [(i, g) for i, row in enumerate(asked) for g in row]
        at = torch.tensor([i for i, _ in pairs]), torch.tensor([g.place for _, g in pairs])
        garment = self.garment[at] == torch.tensor([g.garment for _, g in pairs])
        color = self.color[at] == torch.tensor([g.color for _, g in pairs])
        wanted = torch.zeros_like(self.there)
        wanted[at] = True
        place = (self.there == wanted).all(1)[at[0]]
        there = self.there[at]
        found = {"garment": garment & there, "color": color & there, "place": place}
        found["all"] = garment & color & place
        return {name: float(value.float().mean()) for name, value in found.items()}

    def binding(self, asked: Asked) -> float:
        """Of pictures with two asked colors, the share in which they are not swapped."""
        right = swapped = 0
        for i, row in enumerate(asked):
            if len(row) == 2 and row[0].color != row[1].color:
                colors = [int(self.color[i, g.place]) for g in row]
                wanted = [g.color for g in row]
                right += colors == wanted
                swapped += colors == wanted[::-1]
        return right / max(1, right + swapped)

    def coherence(self) -> float:
        """The share of images that hold something, and nothing that is not clear."""
        clear = (self.clean > _CLEAN) & (self.sure > _SURE)
        whole = self.there.any(1) & (clear | ~self.there).all(1)
        return float(whole.float().mean())


def asked_for(count: int, held_out: bool) -> tuple[list[tuple[Garment, ...]], list[str]]:
    """Garments, one and two in turn, and captions of them."""
    generator = np.random.default_rng(11 + held_out)
    garments = [draw(generator, 1 + i % 2, held_out) for i in range(count)]
    templates = (*TEMPLATES, *HELD_OUT_TEMPLATES) if held_out else TEMPLATES
    chosen = generator.integers(len(templates), size=count)
    captions = [caption_of(g, templates[t]) for g, t in zip(garments, chosen, strict=True)]
    return garments, captions


def single_words(count: int) -> list[str]:
    """Captions of one word: garments, then colors, in turn."""
    words = [*GARMENTS, *COLORS]
    return [words[i % len(words)] for i in range(count)]


def values(pipeline: Any, judge: Judge, count: int) -> dict[str, Any]:
    """The values of one run."""

    def sample(captions: Sequence[str]) -> Tensor:
        return torch.cat(
            [
                pipeline.generate(
                    None,
                    seeds=range(rows.start, rows.stop),
                    conditions={"caption": list(captions[rows])},
                )
                for rows in batches(len(captions))
            ]
        )

    test = scenes("test")[:count]
    real = torch.from_numpy(np.stack([s.pixels for s in test])).permute(0, 3, 1, 2) / 255.0
    again = torch.cat(
        [pipeline.decode_tensor(pipeline.encode(real[rows])) for rows in batches(len(real))]
    )
    found: dict[str, Any] = {}
    told = [scene.garments for scene in test]
    for name, images in (("real", real), ("reconstructed", again)):
        found |= _summary(name, Seen(judge, images), told)
    for name, held_out in (("seen", False), ("held_out", True)):
        garments, captions = asked_for(count, held_out)
        found |= _summary(name, Seen(judge, sample(captions)), garments)
    alone = Seen(judge, sample(single_words(count)))
    found |= {"coherence": alone.coherence(), "coherence_real": found["coherent_real"]}
    found["binding"] = found["binding_seen"]
    return found


def _summary(name: str, seen: Seen, asked: Asked) -> dict[str, Any]:
    rates = seen.rates(asked)
    single = [i for i, row in enumerate(asked) if len(row) == 1]
    parts = {k: v for k, v in rates.items() if k != "all"}
    return {
        f"accuracy_{name}": min(parts.values()),
        f"rates_{name}": rates,
        f"share_of_one_{name}": len(single) / len(asked),
        f"binding_{name}": seen.binding(asked),
        f"coherent_{name}": seen.coherence(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", nargs="+", required=True)
    parser.add_argument("--count", type=int, default=1000)
    given = parser.parse_args()
    command = f"python -m benchmarks.composed --runs {' '.join(given.runs)} --count {given.count}"
    judge = None
    for folder in given.runs:
        seed = str(Run(Path(folder)).config.seed)
        if seed not in held(NAME):
            judge = judge or train_judge()
            keep(NAME, command, seed, values(load_pipeline(folder), judge, given.count))


if __name__ == "__main__":
    main()
