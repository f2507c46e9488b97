"""What can be asked on the command line, as frozen dataclasses without torch.

Docstrings and the strings below the fields are the help texts.
"""

from openunite.commands.making import (
    Convert,
    Encode,
    Finetune,
    Info,
    Prepare,
    Reconstruct,
    Sample,
    Train,
)
from openunite.commands.measuring import Analyze, Evaluate, Report, Study, Sweep
from openunite.commands.measuring import Score as Score
from openunite.commands.measuring import ScoreImages as ScoreImages
from openunite.commands.options import Command as Command
from openunite.commands.showing import Demo

# Options that `train` once had, and the fields of the settings that hold what they set.
MOVED = {
    "channels": ("modality_config.channels",),
    "flip": ("modality_config.flip",),
    "registers": ("model.num_registers",),
    "latent-channels": ("model.latent_channels",),
    "micro-batch-size": ("micro_batch_size",),
    "flow-draws": ("objective.flow_draws",),
    "flow-weight": ("objective.flow_weight",),
    "learning-rate": ("optimizer.muon_learning_rate", "optimizer.adamw_learning_rate"),
    "precision": ("precision",),
    "workers": ("data.workers",),
    "checkpoint-every": ("checkpoint_every",),
    "preview-every": ("preview_every",),
    "guidance-scale": ("sampling.guidance_scale",),
    "trackers": ("trackers",),
}
COMMANDS: dict[str, type[Command]] = {
    "train": Train,
    "sample": Sample,
    "reconstruct": Reconstruct,
    "encode": Encode,
    "evaluate": Evaluate,
    "sweep": Sweep,
    "analyze": Analyze,
    "report": Report,
    "convert": Convert,
    "finetune-decoder": Finetune,
    "study": Study,
    "prepare": Prepare,
    "info": Info,
    "demo": Demo,
}
