"""Finding the model behind a name: a run, a pipeline folder, or a hub id."""

from pathlib import Path

from torch import nn

from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import GenerativeEncoder
from openunite.pipelines.image import ImagePipeline
from openunite.training.build import build_models
from openunite.training.checkpoint import load_checkpoint, newest_checkpoint
from openunite.training.config import RunConfig, load_config


def load_pipeline(source: str) -> ImagePipeline:
    """The pipeline of a finished run, else the newest checkpoint's EMA, a folder, or a hub id.

    Raises FileNotFoundError, one sentence, if `source` is none of these.
    """
    path = Path(source)
    if (path / "pipeline" / "model_index.json").is_file():
        return _open(path / "pipeline")
    if (path / "model_index.json").is_file():
        return _open(path)
    if (path / "config.yaml").is_file():
        return _from_checkpoint(path)
    if path.exists() or source.startswith((".", "/")):
        raise FileNotFoundError(
            f"{source} is neither a run (config.yaml, checkpoints/) nor a pipeline folder "
            "(model_index.json)"
        )
    try:
        return _open(source)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{source} is no run, no pipeline folder, and could not be had from the hub "
            f"({type(error).__name__})"
        ) from error


def _open(source: str | Path) -> ImagePipeline:
    pipeline: ImagePipeline = ImagePipeline.from_pretrained(source)
    return pipeline


def _from_checkpoint(run: Path) -> ImagePipeline:
    config = load_config(run / "config.yaml")
    path, _ = newest_checkpoint(run / "checkpoints")
    if path is None:
        raise FileNotFoundError(f"{run} has no sound checkpoint yet; let it train a little longer")
    tensors, _ = load_checkpoint(path)
    encoder, decoder = build_models(config)
    nn.ModuleDict({"encoder": encoder, "decoder": decoder}).load_state_dict(tensors["ema"])
    return make_pipeline(encoder, decoder, config, ())


def make_pipeline(
    encoder: GenerativeEncoder, decoder: Decoder, config: RunConfig, class_names: tuple[str, ...]
) -> ImagePipeline:
    """A pipeline with the run's sampling settings as defaults."""
    sampling = config.sampling
    pipeline = ImagePipeline(
        encoder.eval(),
        decoder.eval(),
        solver=sampling.solver,
        num_inference_steps=sampling.num_inference_steps,
        time_shift=sampling.time_shift,
        guidance_scale=sampling.guidance_scale if config.num_classes else 1.0,
        guidance_interval=sampling.guidance_interval,
        class_names=list(class_names),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
