"""The table of objectives: title, requirements and trained networks of each. No torch here."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class ObjectiveKind:
    """A row of the table: an objective, selected by `stage`, `tokenizers` and `stop_gradient`.

    `trains` names the networks that learn; the others are frozen. `factory` is "module:name" of the
    function that builds the objective from a `UniteObjective` and from the settings named in
    `settings`; it is "" for UNITE itself. `origin` describes the run that `init_from` has to name,
    "" if none is needed. `modality` is the only one supported, "" for all. `generates` tells if the
    trained model can sample. With `shares_graph`, all terms need one common backward pass; with
    `decodes_first`, the decoder's gradients are complete before the flow draws.
    """

    title: str
    stage: str
    tokenizers: tuple[str, ...]
    trains: tuple[str, ...]
    factory: str = ""
    settings: tuple[str, ...] = ()
    stop_gradient: bool = True
    origin: str = ""
    modality: str = ""
    generates: bool = True
    shares_graph: bool = False
    decodes_first: bool = False

    def build(self, unite: Any, settings: Any) -> Any:
        """Build the objective from a `UniteObjective` and the `ObjectiveConfig` of a run."""
        if not self.factory:
            return unite
        module, name = self.factory.split(":")
        factory = getattr(import_module(f"openunite.baselines.{module}"), name)
        return factory(unite, **{field: getattr(settings, field) for field in self.settings})


_ONE, _TWO = "One network that tokenizes and generates", "A network that tokenizes and another one"
_TWO += " that generates, trained together"
_THROUGH = ", without the stop-gradient"
_ALL, _AUTOENCODER = ("tokenizer", "denoiser", "decoder"), ("tokenizer", "decoder")

OBJECTIVES = (
    ObjectiveKind(_ONE, "joint", ("shared",), _ALL, decodes_first=True),
    ObjectiveKind(_TWO, "joint", ("separate",), _ALL, decodes_first=True),
    *(
        ObjectiveKind(
            title + _THROUGH,
            "joint",
            (tokenizer,),
            _ALL,
            "objectives:ThroughLatentsObjective",
            stop_gradient=False,
            shares_graph=True,
        )
        for title, tokenizer in ((_ONE, "shared"), (_TWO, "separate"))
    ),
    ObjectiveKind(
        "An autoencoder, the first of two stages",
        "autoencoder",
        ("shared", "separate"),
        _AUTOENCODER,
        "objectives:AutoencoderObjective",
        generates=False,
    ),
    ObjectiveKind(
        "An autoencoder, the first of two stages, with a posterior as in a KL-VAE",
        "autoencoder",
        ("posterior",),
        _AUTOENCODER,
        "objectives:PosteriorAutoencoderObjective",
        settings=("kl_weight",),
        generates=False,
    ),
    ObjectiveKind(
        "A network that generates in the latents of an autoencoder, the second of two stages",
        "denoiser",
        ("separate", "posterior"),
        ("denoiser",),
        "objectives:DenoiserObjective",
        origin="the run of the autoencoder",
    ),
    ObjectiveKind(
        "A decoder trained further against a discriminator, with all else unchanged",
        "decoder",
        ("shared", "separate", "posterior"),
        ("decoder",),
        "adversarial:adversarial_decoder",
        settings=("adversarial_weight",),
        origin="the run it starts from",
        modality="image",
    ),
)


def find_objective(stage: str, tokenizer: str, *, stop_gradient: bool) -> ObjectiveKind:
    """The row for these settings. Raises a ValueError that lists the rows of the stage."""
    rows = [row for row in OBJECTIVES if row.stage == stage]
    for row in rows:
        if tokenizer in row.tokenizers and stop_gradient == row.stop_gradient:
            return row
    there_is = " or ".join(
        f"tokenizer {'/'.join(row.tokenizers)} with stop_gradient {str(row.stop_gradient).lower()}"
        for row in rows
    )
    raise ValueError(
        f"stage {stage} needs {there_is}; got tokenizer {tokenizer} with stop_gradient "
        f"{str(stop_gradient).lower()}"
    )
