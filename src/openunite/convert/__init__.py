"""Conversion of released checkpoints to pipeline folders.

Every tensor of the file is mapped, or listed with the reason why it is not needed, or listed as
unexpected; none is dropped silently. Pickles are read with `weights_only`, so no code in them runs.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from openunite.convert.files import (
    WeightSet,
    averaging_of,
    choose_set,
    label_of,
    leftovers,
    read_weights,
)
from openunite.convert.released import (
    MARKS,
    PATCH_POSITIONS,
    UNUSED_ROWS,
    Sizes,
    check_fixed_tables,
    needed_names,
    reason_unused,
    reshaped,
    sizes_of,
)
from openunite.files import atomic_folder
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import GenerativeEncoder

_PROTOCOL = (
    "the pipeline samples with Heun, 50 steps, unguided; the paper's protocol is solver='dopri5' "
    "with guidance_scale swept from 1.0 to 4.0 by 0.2 on guidance_interval (0.1, 1.0)"
)


@dataclass(frozen=True)
class ConversionReport:
    """The tensors used from a checkpoint, those left out and why, and the models built."""

    source: str
    weights: str  # where in the file the weights were found
    averaging: str  # "ema", "raw" or, where the file does not say, "unknown"
    mapped: int
    unused: dict[str, str]  # name -> reason
    unexpected: list[str]  # tensors that the format does not know
    sizes: Sizes  # constructor arguments of encoder and decoder
    parameters: dict[str, int]
    notes: list[str]

    def summary(self) -> str:
        """The report as text: one fact per line, with unused names grouped by reason."""
        lines = [f"{self.source}: {self.mapped} tensors mapped from {self.weights}"]
        for part, sizes in self.sizes.items():
            listed = ", ".join(f"{k} {v}" for k, v in sizes.items() if not isinstance(v, dict))
            lines.append(f"{part}: {self.parameters[part]:,} parameters, {listed}")
        for reason, count in Counter(self.unused.values()).items():
            first = next(name for name, why in self.unused.items() if why == reason)
            others = f" and {count - 1} more" if count > 1 else ""
            lines.append(f"not used: {first}{others} ({reason})")
        lines += [f"unexpected and not used: {name}" for name in self.unexpected]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def convert(
    source: Path,
    output: Path,
    *,
    weights: WeightSet = "ema",
    context_start: int | None = None,
    decoder_heads: int | None = None,
) -> ConversionReport:
    """Write the checkpoint `source` (.safetensors, .pt, .pth) as the pipeline folder `output`.

    `weights` picks the averaged or the raw weights if the file has both. `context_start` (the block
    before which the in-context tokens enter) and `decoder_heads` are not in a checkpoint; they are
    known for size B only. The folder is written atomically, with a `conversion.json`. Raises
    FileNotFoundError if there is no such file; ValueError for an unsafe or unknown file, for
    missing or misshapen tensors, and for an output folder that is not empty.
    """
    output = output.resolve()
    _check_free(output)
    file = read_weights(source, MARKS)
    chosen = choose_set(file, weights)
    found = file.sets[chosen]
    names = needed_names(found)
    sizes = sizes_of(found, context_start, decoder_heads)
    encoder, decoder = GenerativeEncoder(**sizes["encoder"]), Decoder(**sizes["decoder"])
    check_fixed_tables(found, encoder, decoder)
    notes = _load(found, names, encoder, decoder)
    others = sorted(name for name in found if name not in names)
    unused = {name: reason for name in others if (reason := reason_unused(name))}
    report = ConversionReport(
        source=source.name,
        weights=label_of(chosen),
        averaging=averaging_of(chosen),
        mapped=len(names),
        unused={**unused, **UNUSED_ROWS, **leftovers(file, chosen)},
        unexpected=[name for name in others if name not in unused],
        sizes=sizes,
        parameters={"encoder": encoder.num_parameters(), "decoder": decoder.num_parameters()},
        notes=[*notes, _PROTOCOL],
    )
    _write(ImagePipeline(encoder, decoder), report, output)
    return report


def _check_free(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(
            f"expected a new or empty output folder, got {output}, which has content; "
            "remove it or name another"
        )


def _load(
    found: Mapping[str, Tensor],
    names: Mapping[str, str],
    encoder: GenerativeEncoder,
    decoder: Decoder,
) -> list[str]:
    """Check shapes and copy the mapped tensors into the models; return notes for the report."""
    targets = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    targets |= {f"decoder.{name}": tensor for name, tensor in decoder.state_dict().items()}
    assert targets.keys() == set(names.values()), "the table of names does not fit the models"
    values = {name: reshaped(name, found[name]) for name in names}
    wrong = [
        f"{name}: expected {tuple(targets[names[name]].shape)}, got {tuple(value.shape)}"
        for name, value in values.items()
        if value.shape != targets[names[name]].shape
    ]
    if wrong:
        raise ValueError(f"{len(wrong)} tensors of the wrong shape: {'; '.join(wrong[:20])}")
    with torch.no_grad():
        for name, value in values.items():
            targets[names[name]].copy_(value)
    notes = []
    if kinds := {str(value.dtype) for value in values.values() if value.dtype != torch.float32}:
        notes.append(f"tensors stored as {', '.join(sorted(kinds))} became float32")
    if broken := [name for name, value in values.items() if not value.isfinite().all()]:
        notes.append(f"not finite: {', '.join(broken)}")
    if values[PATCH_POSITIONS].any():
        notes.append(f"{PATCH_POSITIONS} is not zero, as it is in the release; its rows are kept")
    return notes


def _write(pipeline: ImagePipeline, report: ConversionReport, output: Path) -> None:
    """Write the pipeline and conversion.json atomically."""
    with atomic_folder(output) as folder:
        pipeline.save_pretrained(folder)
        (folder / "conversion.json").write_text(json.dumps(asdict(report), indent=1))
