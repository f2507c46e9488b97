"""`openunite sample`, `reconstruct` and `encode`: using a trained model."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from openunite.commands import Encode, Reconstruct, Sample
from openunite.data.atoms import write as structures
from openunite.data.images.folders import image_files
from openunite.data.images.pixels import BadImage, open_image
from openunite.data.images.sources import SUFFIXES
from openunite.drawing.pictures import image_grid, pair_grid
from openunite.evaluation.images.metrics import psnr
from openunite.loading import load_pipeline
from openunite.modalities.atoms import use as use_atoms
from openunite.modalities.atoms.pipeline import AtomPipeline
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.pipelines.base import UnitePipeline
from openunite.training.device import choose_device

IMAGES = (".png", ".npz", "")  # how images can be written; "" is a folder


def sample(command: Sample) -> None:
    """Generate images into a grid, an .npz or a folder."""
    _at_least_one("--num-images", command.num_images)
    _at_least_one("--batch-size", command.batch_size)
    output = _claim(command.output, *IMAGES, *structures.WRITERS)
    pipeline = _on_device(load_pipeline(command.source))
    if isinstance(pipeline, AtomPipeline):
        use_atoms.sample(command, pipeline, _claim(command.output, *use_atoms.OUTPUTS))
        return
    if command.num_atoms is not None:
        raise ValueError(f"--num-atoms is for molecules and crystals, {command.source} has images")
    _claim(command.output, *IMAGES)
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
    _write_images(torch.cat(parts), output)
    print(f"{command.num_images} images -> {output}")


def reconstruct(command: Reconstruct) -> None:
    """Inputs above outputs, and the mean PSNR."""
    _at_least_one("--num-images", command.num_images)
    output = _claim(command.output, *use_atoms.OUTPUTS)
    _find(command.images)
    pipeline = _on_device(load_pipeline(command.source))
    if isinstance(pipeline, AtomPipeline):
        use_atoms.reconstruct(command, pipeline, output)
        return
    _claim(command.output, ".png")
    files = _files(command.images)[: command.num_images]
    inputs, outputs = [], []
    for _, batch in _batches(files, 64):
        pixels = pipeline.preprocess(batch)
        inputs.append(pixels.cpu())
        outputs.append(pipeline.decode_tensor(pipeline.encode(pixels)).cpu())
    before, after = torch.cat(inputs), torch.cat(outputs)
    pair_grid(before, after).save(output)
    print(f"{len(before)} images, PSNR {psnr(after, before).mean():.2f} dB -> {output}")


def encode(command: Encode) -> None:
    """Latents and the files they came from."""
    _at_least_one("--batch-size", command.batch_size)
    output = _claim(command.output, ".npz")
    _find(command.images)
    pipeline = _on_device(load_pipeline(command.source))
    if isinstance(pipeline, AtomPipeline):
        use_atoms.encode(command, pipeline, output)
        return
    files = _files(command.images)
    names: list[str] = []
    latents: list[np.ndarray] = []
    for part, batch in _batches(files, command.batch_size):
        names += part
        latents.append(pipeline.encode(batch).float().cpu().numpy())
    array = np.concatenate(latents)
    np.savez(output, latents=array, files=np.array(names))
    print(f"{len(names)} images -> latents {array.shape} in {output}")


def _at_least_one(option: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{option} must be at least 1, got {value}")


def _find(names: tuple[str, ...]) -> None:
    """FileNotFoundError for what is missing or an empty folder, before any work is spent."""
    for path in map(Path, names):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; expected a file or a folder")
        if path.is_dir() and not any(path.iterdir()):
            raise FileNotFoundError(f"no files in {path}; expected a folder that holds some")


def _claim(output: str, *suffixes: str) -> Path:
    """Where to write, known to be possible before any work is spent; "" stands for a folder."""
    path = Path(output)
    if path.suffix.lower() not in suffixes:
        expected = " or ".join(suffix or "have no suffix (a folder)" for suffix in suffixes)
        raise ValueError(f"--output must end in {expected}, got {output}")
    folder = path.parent if path.suffix else path
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"cannot write into {folder}; choose another --output")
    return path


def _on_device(pipeline: UnitePipeline) -> ImagePipeline | AtomPipeline:
    assert isinstance(pipeline, ImagePipeline | AtomPipeline)
    pipeline.to(choose_device())
    return pipeline


def _labels(pipeline: ImagePipeline, command: Sample) -> list[int | str]:
    """One label per image: the given classes, or all of them, in turn; none if unconditional.

    A number is a class's name where there is such a class, else its index.
    """
    num_classes, names = pipeline.encoder.config.num_classes, pipeline.config.class_names
    chosen: list[int | str] = [
        int(c) if c.isdecimal() and c not in names else c for c in command.classes
    ]
    if chosen and num_classes == 0:
        raise ValueError(f"{command.source} was trained without classes; leave out --classes")
    chosen = chosen or list(range(num_classes))
    return [chosen[i % len(chosen)] for i in range(command.num_images)] if chosen else []


def _write_images(images: Tensor, output: Path) -> None:
    if output.suffix.lower() == ".npz":
        array = (images.permute(0, 2, 3, 1) * 255.0).round().to(torch.uint8).numpy()
        np.savez(output, images=array)
    elif output.suffix:
        image_grid(images, columns=min(8, len(images))).save(output)
    else:
        for i, image in enumerate(images):
            image_grid(image[None], columns=1, scale=1).save(output / f"{i:06d}.png")


def _batches(files: list[Path], size: int) -> Iterator[tuple[list[str], list[Image.Image]]]:
    """Readable images in batches; an unreadable one is named on stderr and left out."""
    kept: list[tuple[str, Image.Image]] = []
    any_kept = False
    for file in tqdm(files, desc="images", unit="image", disable=len(files) < 2 * size):
        try:
            kept.append((str(file), open_image(file.read_bytes())))
        except (OSError, BadImage) as error:
            tqdm.write(f"skipped {file}: {error}", file=sys.stderr)
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
    """Files as given, whatever their suffix, and images in and below folders."""
    files: list[Path] = []
    for path in map(Path, names):
        if path.is_dir():
            files += image_files(path)
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"{path} does not exist; expected an image file or a folder")
    if not files:
        raise FileNotFoundError(f"no images in {', '.join(names)}; expected {sorted(SUFFIXES)}")
    return files
