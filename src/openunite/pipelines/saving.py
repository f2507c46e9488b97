"""Saving and loading of pipelines: only settings and weights, never code."""

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError

from openunite.files import atomic_folder
from openunite.pipelines.folder import (
    INDEX,
    PARTS,
    check_manifest,
    find_folder,
    part_named,
    read_index,
    write_manifest,
)
from openunite.pipelines.parts import load_part
from openunite.sampling import Sampling

_DOWNLOAD = ("revision", "token", "cache_dir", "local_files_only", "force_download")
_SAMPLING = [f.name for f in fields(Sampling)]
_FORMAT_1 = [*_SAMPLING, "eta", "temperature"]
_ALIKE = ("modality", "num_registers", "latent_channels")  # settings that both parts must share


class SavedPipeline(DiffusionPipeline):
    """A diffusers pipeline that is loaded by `folder.py` and `parts.py` instead of diffusers."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        **options: Any,
    ) -> Self:
        """Load the pipeline of a folder, a run, a packaged name or a hub id.

        `dtype` is the type of the parameters; by default they keep the saved one.

        `options`: revision, token, cache_dir, local_files_only and force_download for the hub;
        settings of the pipeline and of its sampling (`guidance_scale=2.0`) replace the saved ones.
        Raises ValueError or OSError for other options, and for a folder that is incomplete,
        damaged, or names unknown classes.
        """
        settings = {n: options.pop(n) for n in _settings_of(cls) if n in options}
        changes = {n: options.pop(n) for n in _SAMPLING if n in options}
        _refuse(options.keys() - {*_DOWNLOAD})
        folder = find_folder(pretrained_model_name_or_path, **options)
        index = read_index(folder)
        settings = _read_settings(cls, folder, index) | settings
        check_manifest(folder)
        parts = {name: load_part(folder / name, part_named(name, index[name])) for name in PARTS}
        for name in _ALIKE:
            values = [part.config[name] for part in parts.values()]
            if values[0] != values[1]:
                raise ValueError(
                    f"{folder} holds parts of two models: {name} is {values[0]!r} in the encoder "
                    f"and {values[1]!r} in the decoder"
                )
        try:
            sampling = Sampling.from_dict(settings.pop("sampling"))
            pipeline = cls(**parts, sampling=sampling.change(**changes), **settings)
        except ValueError as error:
            raise ValueError(f"{folder / INDEX}: {error}") from error
        kind = dtype or torch_dtype
        return pipeline if kind is None else pipeline.to(kind)

    def save_pretrained(
        self,
        save_directory: str | Path,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        **hub: Any,
    ) -> None:
        """Write the folder atomically, with a manifest.json that loading checks.

        `push_to_hub` uploads it afterwards, with `hub` as arguments of the method of that name.
        Raises OSError if the disk is full or cannot be written; an earlier pipeline is then
        untouched.
        """
        if not safe_serialization or variant is not None:
            raise ValueError("a pipeline is saved as safetensors without a variant; leave both out")
        final = Path(save_directory)
        try:
            with atomic_folder(final) as folder:
                super().save_pretrained(folder, max_shard_size=max_shard_size)
                write_manifest(folder)
        except (OSError, SafetensorError) as error:  # safetensors has its own I/O errors
            raise OSError(
                f"cannot write the pipeline {final} ({error}); nothing there has changed: mend the "
                "disk and try again"
            ) from error
        if push_to_hub:
            self.push_to_hub(hub.pop("repo_id", final.name), **hub)

    @classmethod
    def download(cls, pretrained_model_name: str | Path, **options: Any) -> str:
        """Download the files of a hub id, without any code beside them; return the folder."""
        _refuse(options.keys() - {*_DOWNLOAD})
        return str(find_folder(pretrained_model_name, **options))

    def enable_sequential_cpu_offload(self, *given: Any, **options: Any) -> None:
        """Raise ValueError: layers here share weights, so they cannot be moved one by one."""
        raise ValueError(
            "the layers of this pipeline cannot move one by one; call enable_model_cpu_offload, "
            "which moves the encoder and the decoder"
        )


def _refuse(unknown: set[str]) -> None:
    if unknown:
        raise ValueError(
            f"expected dtype, settings of the pipeline, or {', '.join(_DOWNLOAD)}, got "
            f"{', '.join(sorted(unknown))}; a pipeline is settings and weights and runs no code"
        )


def _settings_of(cls: type) -> list[str]:
    """The names of the constructor's arguments, without the components."""
    return [n for n in inspect.signature(cls).parameters if n not in PARTS]


def _read_settings(cls: type, folder: Path, index: dict[str, Any]) -> dict[str, Any]:
    """The constructor's settings in an index. Raises ValueError if it is another pipeline's."""
    name, known = index.get("_class_name"), [kind.__name__ for kind in cls.__mro__]
    if name not in known:
        raise ValueError(f"{folder / INDEX} is of a {name!r:.100}; it cannot be a {cls.__name__}")
    found = {n: value for n, value in index.items() if n[:1] != "_" and n not in PARTS}
    if "sampling" not in found:  # format 1 has no section for sampling
        found["sampling"] = {n: found.pop(n) for n in _FORMAT_1 if n in found}
    if unknown := found.keys() - {*_settings_of(cls)}:
        raise ValueError(
            f"{folder / INDEX} has components or settings no {cls.__name__} has: "
            f"{sorted(unknown)!r:.200}"
        )
    return found
