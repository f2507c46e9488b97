"""One thread, shapes and types checked at run time, and models small enough for a test."""

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
from beartype import BeartypeConf, beartype
from hypothesis import settings
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from openunite.batch import Batch
    from openunite.modality import Modality
    from openunite.models.decoder import Decoder
    from openunite.models.generative_encoder import GenerativeEncoder

pytest.register_assert_rewrite("tests.modalities.contract")
torch.set_num_threads(1)
# No deadline: the machine may be shared. The same examples every time: a failure is a change.
settings.register_profile("openunite", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("openunite")

typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do for a float

# Every annotated shape and type below is checked on each call. The trainer, image sources
# and pipelines are left out: beartype cannot check arguments that are plain Protocols.
install_import_hook(
    [
        "openunite.batch",
        "openunite.philox",
        *(f"openunite.flow.{name}" for name in ("guidance", "path", "random", "solvers")),
        "openunite.nn",
        "openunite.modality",
        "openunite.modalities.image.tokens",
        "openunite.models",
        "openunite.objective",
        *(
            f"openunite.training.{name}"
            for name in ("checkpoint", "collapse", "config", "optim", "schedule")
        ),
    ],
    "tests.conftest.typecheck",
)


@dataclass(frozen=True)
class TinyModels:
    """A Generative Encoder and a decoder of one modality, with the arguments that made them."""

    encoder: "GenerativeEncoder"
    decoder: "Decoder"
    modality: "Modality"
    settings: dict[str, Any]

    @property
    def batch(self) -> "Batch":
        """Six stored images of classes 0 to 4; the sixth has no class."""
        from openunite.batch import CLASS, Batch, Given

        image, classes = self.settings["image"], self.settings["num_classes"]
        generator = torch.Generator().manual_seed(7)
        shape = (6, image["channels"], image["height"], image["width"])
        data = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        labels = torch.arange(6)
        return Batch(data, torch.arange(6), conditions={CLASS: Given(labels, labels < classes)})


def rows_of(batch: "Batch", part: Any) -> "Batch":
    """Some of the samples of a batch: a slice, positions, or a mask."""
    from openunite.batch import Batch, Given

    mask, conditions = batch.mask, batch.conditions.items()
    return Batch(
        batch.data[part],
        batch.index[part],
        None if mask is None else mask[part],
        {name: Given(given.values[part], given.known[part]) for name, given in conditions},
    )


def perturb(model: torch.nn.Module, seed: int = 1, size: float = 0.1) -> None:
    """Move every parameter off its initialization, where gates and output are zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(size * noise.to(parameter.dtype))


def make_models(*, perturbed: bool = True, **changes: Any) -> TinyModels:
    """Width 32, three blocks; K = N = 4 unless the size of image, patch or registers changes."""
    from openunite.modality import get_modality
    from openunite.models.decoder import Decoder
    from openunite.models.generative_encoder import GenerativeEncoder

    settings: dict[str, Any] = {
        "image": {"height": 8, "width": 8, "channels": 1, "patch_size": 4},
        "num_registers": 4,
        "latent_channels": 6,
        "num_classes": 5,
        "num_context_tokens": 2,
        "context_start": 1,
        "decoder_input_width": None,
        "latent_norm": "layernorm",
        "block_norm": True,
    } | changes
    shared = {
        "modality": "image",
        "modality_config": settings["image"],
        "num_registers": settings["num_registers"],
        "latent_channels": settings["latent_channels"],
        "width": 32,
        "num_heads": 2,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = GenerativeEncoder(
            **shared,
            depth=3,
            num_classes=settings["num_classes"],
            num_context_tokens=settings["num_context_tokens"],
            context_start=settings["context_start"],
            latent_norm_kind=settings["latent_norm"],
            block_norm=settings["block_norm"],
        )
        input_width = settings["decoder_input_width"]
        decoder = Decoder(**shared, depth=2, mlp_width=48, input_width=input_width)
    if perturbed:
        perturb(encoder)
        perturb(decoder, seed=2)
    return TinyModels(encoder, decoder, get_modality("image", settings["image"]), settings)


@pytest.fixture
def tiny_models() -> Callable[..., TinyModels]:
    """`tiny_models(**changes)` builds small models, off their initialization by default."""
    return make_models


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps precision and processes for the life of the process; tests vary them."""
    yield
    if "accelerate" in sys.modules:
        sys.modules["accelerate.state"].AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C counts here and in new processes, even where a shell told the tests to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
