"""`openunite sample`, `reconstruct` and `encode`: using a trained model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from openunite.commands import Encode, Reconstruct, Sample
from openunite.evaluation.image_metrics import psnr
from openunite.evaluation.pictures import image_grid, pair_grid
from openunite.jobs.load import load_pipeline
from openunite.modalities.image.pixels import BadImage, open_image
from openunite.pipelines.image import ImagePipeline

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def sample(command: Sample) -> None:
    """Generate images into a grid, an .npz or a folder."""
    if command.num_images < 1:
        raise ValueError(f"--num-images must be at least 1, got {command.num_images}")
    pipeline = _on_device(load_pipeline(command.source))
    labels = _labels(pipeline, command)
    parts: list[Tensor] = []
    starts = range(0, command.num_images, command.batch_size)
    for start in tqdm(starts, desc="sampling", unit="batch", disable=len(starts) < 2):
        stop = min(start + command.batch_size, command.num_images)
        images = pipeline.generate(
            labels[start:stop] if labels else None,
            seeds=range(command.seed + start, command.seed + stop),
            guidance_scale=command.guidance_scale,
            num_inference_steps=command.num_inference_steps,
            solver=command.solver,
        )
        parts.append(images.cpu())
    _write_images(torch.cat(parts), Path(command.output))
    print(f"{command.num_images} images -> {command.output}")


def reconstruct(command: Reconstruct) -> None:
    """Inputs above outputs, and the mean PSNR."""
    pipeline = _on_device(load_pipeline(command.source))
    inputs, outputs = [], []
    for _, batch in _batches(command.images, 64, command.num_images):
        pixels = pipeline.preprocess(batch)
        inputs.append(pixels.cpu())
        outputs.append(pipeline.decode_tensor(pipeline.encode(pixels)).cpu())
    before, after = torch.cat(inputs), torch.cat(outputs)
    pair_grid(before, after).save(command.output)
    print(f"{len(before)} images, PSNR {psnr(after, before).mean():.2f} dB -> {command.output}")


def encode(command: Encode) -> None:
    """Latents and the files they came from."""
    pipeline = _on_device(load_pipeline(command.source))
    files: list[str] = []
    latents: list[np.ndarray] = []
    for names, batch in _batches(command.images, command.batch_size, None):
        files += names
        latents.append(pipeline.encode(batch).float().cpu().numpy())
    array = np.concatenate(latents)
    np.savez(command.output, latents=array, files=np.array(files))
    print(f"{len(files)} images -> latents {array.shape} in {command.output}")


def _on_device(pipeline: ImagePipeline) -> ImagePipeline:
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    return pipeline


def _labels(pipeline: ImagePipeline, command: Sample) -> list[int | str]:
    """One label per image: the given classes, or all of them, in turn; none if unconditional."""
    num_classes = pipeline.encoder.config.num_classes
    chosen: list[int | str] = [int(c) if c.isdecimal() else c for c in command.classes]
    if chosen and num_classes == 0:
        raise ValueError(f"{command.source} was trained without classes; leave out --classes")
    chosen = chosen or list(range(num_classes))
    return [chosen[i % len(chosen)] for i in range(command.num_images)] if chosen else []


def _write_images(images: Tensor, output: Path) -> None:
    if output.suffix == ".npz":
        array = (images.permute(0, 2, 3, 1) * 255.0).round().to(torch.uint8).numpy()
        np.savez(output, images=array)
    elif output.suffix:
        image_grid(images, columns=min(8, len(images))).save(output)
    else:
        output.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(images):
            image_grid(image[None], columns=1, scale=1).save(output / f"{i:06d}.png")


def _batches(
    names: tuple[str, ...], size: int, limit: int | None
) -> Iterator[tuple[list[str], list[Image.Image]]]:
    """Readable images in batches; an unreadable one is named on stderr and left out."""
    files = _files(names)[:limit]
    kept: list[tuple[str, Image.Image]] = []
    any_kept = False
    for file in tqdm(files, desc="images", unit="image", disable=len(files) < 2 * size):
        try:
            kept.append((str(file), open_image(file.read_bytes())))
        except BadImage as error:
            tqdm.write(f"skipped {file}: {error}")
            continue
        any_kept = True
        if len(kept) == size:
            yield [n for n, _ in kept], [i for _, i in kept]
            kept = []
    if kept:
        yield [n for n, _ in kept], [i for _, i in kept]
    if not any_kept:
        raise ValueError(f"none of {len(files)} files could be read as an image")


def _files(names: tuple[str, ...]) -> list[Path]:
    """Image files, folders taken recursively. FileNotFoundError names what is missing."""
    files: list[Path] = []
    for path in map(Path, names):
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"{path} does not exist; expected an image file or a folder")
    if not files:
        raise FileNotFoundError(f"no images in {', '.join(names)}; expected {sorted(SUFFIXES)}")
    return files
