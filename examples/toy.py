"""UNITE in one file: joint tokenization and generation of 8 x 8 digits, in about a minute.

    python examples/toy.py            # trains, prints, writes toy.png (needs scikit-learn)

The network is the library's; the objective and the loop are written out here, line by line, as in
docs/METHOD.md. tests/test_toy.py checks that `losses` equals `openunite.UniteObjective`.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from openunite import Decoder, GenerativeEncoder
from openunite.batch import Evidence
from openunite.flow.random import SlotRandom, Stream
from openunite.training.optim import BatchedMuon, partition

IMAGE = {"height": 8, "width": 8, "channels": 1, "patch_size": 2}
K, C, STEPS, BATCH, DRAWS, WEIGHT = 16, 8, 400, 64, 2, 0.3


def build() -> tuple[GenerativeEncoder, Decoder]:
    torch.manual_seed(0)
    encoder = GenerativeEncoder("image", IMAGE, K, C, 64, 3, 2, 10, num_context_tokens=0)
    return encoder, Decoder("image", IMAGE, K, C, 64, 2, 2, 128)


def losses(
    encoder: GenerativeEncoder,
    decoder: Decoder,
    x: Tensor,
    y: Tensor,
    step: int,
    random: SlotRandom,
) -> Tensor:
    """Equations (1) to (5) for images x (B, 1, 8, 8) in [0, 1] and labels y (B,)."""
    # (1) tokenize: pure noise registers, the image, t near 0, no class
    t = 0.01 * random.uniform(Stream.TOKENIZE_TIME)
    z0 = encoder(random.normal(Stream.REGISTERS, K, C), t, Evidence(observation=x))
    # (2) decode, half of the latents lightly noised
    s = (0.7 + 0.3 * random.uniform(Stream.RECON_TIME))[:, None, None]
    noisy = s * z0 + (1 - s) * random.normal(Stream.RECON_NOISE, K, C)
    chosen = random.uniform(Stream.RECON_CHOICE)[:, None, None] < 0.5
    loss = (decoder(torch.where(chosen, noisy, z0)) - x).abs().mean()
    # (3) to (5) noise and denoise, with the same encoder and the stop-gradient on z0
    target, weight = z0.detach(), WEIGHT * min(1.0, step / (0.3 * STEPS))
    for draw in range(DRAWS):
        t = torch.sigmoid(random.normal(Stream.FLOW_TIME, draw=draw))
        t = 0.5 * t / (1 - 0.5 * t)
        mix, noise = t[:, None, None], random.normal(Stream.FLOW_NOISE, K, C, draw=draw)
        dropped = random.uniform(Stream.LABEL_DROPOUT, draw=draw) < 0.1
        shown = Evidence.of_classes(y).drop(dropped)
        denoised = encoder(mix * target + (1 - mix) * noise, t, shown)
        error = (denoised - target) / (1 - mix).clamp_min(0.05)
        loss = loss + weight / DRAWS * error.square().mean()
    return loss


@torch.no_grad()
def sample(encoder: GenerativeEncoder, decoder: Decoder, y: Tensor, steps: int = 30) -> Tensor:
    """Equation (6) by Euler, unguided."""
    z = torch.randn(len(y), K, C, generator=torch.Generator().manual_seed(1))
    for i in range(steps):
        t = torch.full((len(y),), i / steps)
        z = z + (encoder(z, t, Evidence.of_classes(y)) - z) / max(1 - i / steps, 0.05) / steps
    return decoder(z).clamp(0, 1)


def main() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.tensor(digits.images[:, None] / 16.0, dtype=torch.float32)
    y = torch.tensor(digits.target)
    encoder, decoder = build()
    model = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    groups = {name: [p for _, p in members] for name, members in partition(model).items()}
    muon = BatchedMuon(groups["muon"], lr=5e-3)
    adamw = torch.optim.AdamW(groups["adamw"], lr=2e-3, weight_decay=0.0)
    order = np.random.default_rng(0)
    for step in range(STEPS):
        index = torch.from_numpy(order.integers(0, len(x), BATCH))
        random = SlotRandom(0, step, torch.arange(BATCH))
        loss = losses(encoder, decoder, x[index], y[index], step, random)
        loss.backward()
        for optimizer in (muon, adamw):
            optimizer.step()
            optimizer.zero_grad()
        if step % 50 == 0 or step == STEPS - 1:
            print(f"step {step:4d}  loss {loss.item():.4f}")
    images = sample(encoder, decoder, torch.arange(100) % 10)[:, 0].reshape(10, 10, 8, 8)
    picture = images.transpose(1, 2).reshape(80, 80).mul(255).byte().numpy()
    Image.fromarray(picture).resize((640, 640), Image.Resampling.NEAREST).save("toy.png")
    print("wrote toy.png: ten columns, one per digit")


if __name__ == "__main__":
    main()
