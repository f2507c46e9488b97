"""Recipes for images."""

from dataclasses import replace

from openunite.sampling import Sampling
from openunite.training.config import (
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RunConfig,
)
from openunite.training.sizes import get_size


def fashion() -> RunConfig:
    """Fashion-MNIST-mini, embedded: 28 x 28 gray, 10 classes, 6,000 + 1,000 images.

    Cost: about four minutes on two CPU cores. Expected (docs/LOG.md has the runs): PSNR 24.4 dB,
    84 % of unguided and 96 % of guided samples recognized, fd_samples about 0.2 of fd_blur.
    """
    return RunConfig(
        recipe="fashion",
        modality="image",
        modality_config=_image(28, 28, 1, 7, l1_weight=0.5, l2_weight=6.0),
        num_classes=10,
        data=DataConfig("fashion-mnist-mini"),
        model=ModelConfig(
            num_registers=16,
            latent_channels=20,
            width=96,
            depth=3,
            num_heads=3,
            decoder_width=128,
            decoder_depth=2,
            decoder_heads=4,
            decoder_mlp_width=256,
            num_context_tokens=0,
            context_start=0,
        ),
        steps=1400,
        batch_size=32,
        objective=_short_objective(),
        optimizer=_short_run(),
        sampling=Sampling("sde", 20, 3.0, 1.7, options={"eta": 1.0}),
        checkpoint_every=500,
        preview_every=500,
    )


def composed() -> RunConfig:
    """One or two colored garments, 48 x 48 RGB, asked for by captions (extra `text`).

    Losses are three times those of `fashion`, because five sixths of a picture are black. Cost:
    about a CPU second a step; a whole run has not been measured yet.
    """
    small = fashion()
    return replace(
        small,
        recipe="composed",
        modality_config=_image(48, 48, 3, 8, l1_weight=1.5, l2_weight=18.0),
        num_classes=0,
        conditions={"caption": {"kind": "text"}},
        data=DataConfig("composed"),
        model=replace(small.model, num_registers=36, latent_channels=16, width=128, num_heads=4),
        steps=1200,
        sampling=Sampling("multistep", 20, 1.0, 2.0),
        preview_every=0,
    )


def digits() -> RunConfig:
    """Scikit-learn's 8 x 8 digits, 10 classes, 1,797 images (extra `digits`).

    Cost: about two minutes on two CPU cores.
    """
    return RunConfig(
        recipe="digits",
        modality="image",
        modality_config=_image(8, 8, 1, 2),
        num_classes=10,
        data=DataConfig("digits", holdout_share=0.15),
        model=ModelConfig(
            num_registers=16,
            latent_channels=8,
            width=96,
            depth=4,
            num_heads=3,
            decoder_width=96,
            decoder_depth=2,
            decoder_heads=3,
            decoder_mlp_width=256,
            num_context_tokens=0,
            context_start=0,
        ),
        steps=1000,
        batch_size=64,
    )


def images() -> RunConfig:
    """Your own images: `openunite train images --data FOLDER`.

    Image size, patch, model size, batch and steps are chosen from the data and the machine by
    `--size` or `--minutes` (see `modalities/image/fit.py`); each can be set by hand. Images are
    mirrored only with `--set modality_config.flip=true`.
    """
    return RunConfig(
        recipe="images",
        modality="image",
        modality_config=_image(32, 32, 3, 8, l1_weight=0.5, l2_weight=6.0, head="convolutional"),
        num_classes=None,
        data=DataConfig(""),
        model=get_size("nano").model(16, 32),
        steps=5000,
        batch_size=32,
        objective=_short_objective(),
        optimizer=_short_run(),
        preview_every=500,
    )


def cifar10() -> RunConfig:
    """CIFAR-10, 32 x 32, 10 classes: the hub's `uoft-cs/cifar10`, or a copy given by --data.

    Cost: not measured yet; size `tiny` (about 12 M parameters), 64 registers of 16 channels.
    """
    return RunConfig(
        recipe="cifar10",
        modality="image",
        modality_config=_image(32, 32, 3, 4, flip=True),
        num_classes=10,
        data=DataConfig("uoft-cs/cifar10", workers=4),
        model=get_size("tiny").model(64, 16),
        steps=100_000,
        batch_size=256,
        precision="bf16",
        optimizer=OptimizerConfig(2e-3, 1e-3, warmup_steps=1000, ema_decay=0.9995),
        checkpoint_every=2000,
        preview_every=2000,
    )


def tiny_imagenet() -> RunConfig:
    """Tiny-ImageNet, 64 x 64, 200 classes: the hub's `zh-plus/tiny-imagenet`, or --data.

    Cost: not measured yet; size `S`, 64 registers of 32 channels, patch 8.
    """
    return RunConfig(
        recipe="tiny_imagenet",
        modality="image",
        modality_config=_image(64, 64, 3, 8, flip=True),
        num_classes=None,
        data=DataConfig("zh-plus/tiny-imagenet", workers=8),
        model=get_size("S").model(64, 32),
        steps=200_000,
        batch_size=256,
        precision="bf16",
        optimizer=OptimizerConfig(1e-3, 5e-4, warmup_steps=2000, ema_decay=0.9995),
        checkpoint_every=5000,
        preview_every=5000,
    )


def imagenet256_b() -> RunConfig:
    """ImageNet-256, UNITE-B (217.6 M parameters), 240 epochs, k = 14 flow draws.

    The paper reports FID 2.12, IS 294.1 (k = 14) and FID 2.44 with k = 3; the release needs
    26 minutes per epoch on 8 H200 with k = 3. Needs `--data` with ImageNet-1k.
    """
    return _imagenet("imagenet256_b", "B", epochs=240, flow_draws=14)


def imagenet256_l() -> RunConfig:
    """ImageNet-256, UNITE-L with decoder B (545.5 M parameters), 120 epochs: paper FID 1.73.

    Cost: not measured; about 970 GPU-hours on 8 H200 at MFU 40 %, 3,650 at the release's 10.5 %
    (half of docs/SCALING.md's estimate for 240 epochs). Needs `--data` with ImageNet-1k.
    """
    return _imagenet("imagenet256_l", "L", epochs=120, flow_draws=14)


def imagenet256_xl() -> RunConfig:
    """ImageNet-256, UNITE-XL with decoder L (980.4 M), 120 epochs: paper FID 1.75, IS 309.9.

    Cost: not measured; about 1,460 GPU-hours on 8 H200 at MFU 40 %, 5,480 at the release's 10.5 %
    (half of docs/SCALING.md's estimate for 240 epochs). Needs `--data` with ImageNet-1k.
    """
    return _imagenet("imagenet256_xl", "XL", epochs=120, flow_draws=14)


def _imagenet(name: str, size: str, epochs: int, flow_draws: int) -> RunConfig:
    """The paper's numbers: batch 1024, rate 1e-4 x batch / 384, warm-up 20 epochs, cosine.

    LPIPS needs torchvision's VGG16 file, which is downloaded or read from
    ~/.cache/openunite/weights. Without it, set `perceptual` to "gradients" or "none" in a copy of
    config.yaml.
    """
    images, batch_size = 1_281_167, 1024
    steps_per_epoch = images // batch_size
    rate = 1e-4 * batch_size / 384
    return RunConfig(
        recipe=name,
        modality="image",
        modality_config=_image(
            256, 256, 3, 16, flip=True, patch_positions="zero", perceptual="lpips"
        ),
        num_classes=1000,
        data=DataConfig("ILSVRC/imagenet-1k", workers=12),
        model=get_size(size).model(256, 32),
        steps=epochs * steps_per_epoch,
        batch_size=batch_size,
        micro_batch_size=32,
        precision="bf16",
        # As in the release, the sum over draws has weight 1, so their mean has weight k. There is
        # no ramp, because the long warm-up of the learning rate lets the reconstruction lead.
        objective=ObjectiveConfig(flow_draws, flow_weight=float(flow_draws), flow_ramp=0.0),
        optimizer=OptimizerConfig(
            rate, rate, warmup_steps=20 * steps_per_epoch, ema_decay=0.9978, clip_norm=3.0
        ),
        sampling=Sampling("heun", 50, 1.0, guidance_scale=2.0),
        checkpoint_every=2500,
        preview_every=5000,
    )


def _short_objective() -> ObjectiveConfig:
    """Two flow draws in one pass, and the weights and times of short runs (docs/LOG.md)."""
    return ObjectiveConfig(
        flow_draws=2,
        draws_per_pass=2,
        flow_weight=0.4,
        time_shift=0.6,
        recon_noise_start=0.77,
    )


def _short_run() -> OptimizerConfig:
    """The optimizer found best for runs of 1,000 to 2,000 small batches (docs/LOG.md)."""
    return OptimizerConfig(
        muon_learning_rate=7e-3, muon_momentum=0.9, betas=(0.9, 0.99), constant_share=0.4
    )


def _image(
    height: int, width: int, channels: int, patch_size: int, **settings: object
) -> dict[str, object]:
    return {
        "height": height,
        "width": width,
        "channels": channels,
        "patch_size": patch_size,
        **settings,
    }
