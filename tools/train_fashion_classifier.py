"""Train the packaged Fashion-MNIST classifier: `OMP_NUM_THREADS=1 python tools/train_...py`.

Sees the 6000 training images only. The test accuracy is printed once, after the last step, and
chooses nothing: neither a checkpoint nor a setting.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from openunite.evaluation.images.features.fashion import (
    WEIGHTS_FILE,
    FashionClassifier,
    load_fashion_classifier,
)

PACKAGE = Path(__file__).parents[1] / "src" / "openunite"
DATA = PACKAGE / "data" / "images" / "assets" / "fashion_mnist_mini.npz"
WEIGHTS = PACKAGE / "evaluation" / "images" / "assets" / WEIGHTS_FILE

SEED = 0
BATCH_SIZE = 100
PEAK_LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.05
MAX_SHIFT = 2


def load_split(split: str) -> tuple[Tensor, Tensor]:
    with np.load(DATA) as arrays:
        images = torch.from_numpy(arrays[f"x_{split}"]).float()[:, None] / 255.0
        labels = torch.from_numpy(arrays[f"y_{split}"]).long()
    return images, labels


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip left to right half of the time and shift by up to two pixels either way."""
    count, _, height, width = images.shape
    flip = torch.rand(count, generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    padded = F.pad(images, [MAX_SHIFT] * 4)[:, 0]
    top, left = torch.randint(0, 2 * MAX_SHIFT + 1, (2, count), generator=generator)
    rows = (top[:, None] + torch.arange(height))[:, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, :]
    return padded[torch.arange(count)[:, None, None], rows, columns][:, None]


def optimizer_for(model: nn.Module) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_LEARNING_RATE)


def train(images: Tensor, labels: Tensor, epochs: int) -> FashionClassifier:
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = FashionClassifier()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in stubs
    optimizer = optimizer_for(model)
    num_steps = epochs * (len(images) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LEARNING_RATE, num_steps, pct_start=0.1, cycle_momentum=False
    )
    start = time.perf_counter()
    for epoch in range(epochs):
        total = 0.0
        for index in torch.split(torch.randperm(len(images), generator=generator), BATCH_SIZE):
            logits = model(augment(images[index], generator))
            loss = F.cross_entropy(logits, labels[index], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index) / len(images)
        elapsed = time.perf_counter() - start
        print(f"epoch {epoch + 1:3d}/{epochs}  loss {total:.4f}  {elapsed:5.0f} s", flush=True)
    return model


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((model(images).argmax(1) == labels).double().mean())


def save(model: nn.Module) -> None:
    WEIGHTS.parent.mkdir(exist_ok=True)
    state = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    save_file(state, WEIGHTS)
    WEIGHTS.chmod(0o644)  # safetensors leaves it to the owner alone, a wheel is for everyone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=50)
    arguments = parser.parse_args()
    images, labels = load_split("train")
    save(train(images, labels, arguments.epochs))
    # Judged as users get it: read back from the file, through float16.
    model = load_fashion_classifier()
    print(f"train accuracy {accuracy(model, images, labels):.4f}")
    print(f"test accuracy  {accuracy(model, *load_split('test')):.4f}")
    print(f"{WEIGHTS}: {WEIGHTS.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
