"""Estimated memory of a run on one device.

Weights, gradients, optimizer state and EMA follow from the number of parameters. Activations that
are saved for the backward pass are traced: one block of each kind runs on fake tensors, which have
shapes but no contents, and the saved bytes are summed. Every loss term is back-propagated before
the next one, so only the largest term counts, no matter how many passes of flow draws there are;
without the stop-gradient all draws belong to one term.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from openunite.evaluation.images.perceptual import Lpips
from openunite.modality import Head, get_modality
from openunite.models.decoder import Decoder
from openunite.nn.block import AdaptiveBlock, PlainBlock
from openunite.planning.cost import meta_models
from openunite.training.config import RunConfig
from openunite.training.optim import partition

_FLOAT = 4
# Peak memory of a step per saved byte: 0.98 was measured on a CPU (docs/LOG.md); the backward pass
# frees memory while it runs. The rest is an assumed margin for the GPU allocator.
_WORKING = 1.1
_CONTEXT = 1.5e9  # CUDA context, libraries, workspaces; assumed


@dataclass(frozen=True)
class Memory:
    """Bytes of the parts of a run on one device; their peak must fit into its memory."""

    states: float  # weights, gradients, momenta, EMA
    update: float  # temporary tensors of the optimizer step
    copies: float  # weights gathered or cast for a pass
    per_sample: float  # saved for the backward pass of the largest loss term
    samples: int

    @property
    def peak(self) -> float:
        """Peak bytes; activations and tensors of the update never exist at the same time."""
        activations = _WORKING * self.samples * self.per_sample
        return _CONTEXT + self.states + max(self.update, self.copies + activations)

    def most(self, room: float) -> int:
        """The largest number of samples per pass that fits into `room` bytes."""
        left = room - _CONTEXT - self.states
        if left < self.update:
            return 0
        return max(0, int((left - self.copies) // (_WORKING * self.per_sample)))


def memory(config: RunConfig, samples: int, world: int = 1) -> Memory:
    """Memory with `samples` per pass on each of `world` devices."""
    encoder, decoder = meta_models(config)
    groups = partition(nn.ModuleDict({"encoder": encoder, "decoder": decoder}))
    muon, adamw = (sum(p.numel() for _, p in groups[name]) for name in ("muon", "adamw"))
    share = 1 / world if config.sharding == "full" else 1.0
    # Weight, gradient, EMA; one momentum for Muon, two for AdamW.
    states = share * _FLOAT * (3 * (muon + adamw) + muon + 2 * adamw)
    message = _FLOAT * (muon + adamw) if world > 1 and config.sharding == "none" else 0.0
    update = max(message, share * 2 * _FLOAT * muon)  # updates and their orthogonalized stack
    tokenize = _encoder_bytes(config, encoder.networks()[0].embedder.tokens_beside)
    draw, decode = _encoder_bytes(config, 0), _decoder_bytes(config, decoder)
    copied = 2.0 * muon if config.precision == "bf16" else 0.0
    if message:  # the decoder's gradients are sent while flow draws are computed
        copied += _FLOAT * sum(p.numel() for p in decoder.parameters())
    if config.sharding == "full":
        copied += 2 * _FLOAT * (muon + adamw) / max(1, config.model.depth)
    first, flow = tokenize + decode + _lpips_bytes(config), draws_at_once(config) * draw
    kept = first + flow if config.kind.shares_graph else max(first, flow)
    return Memory(states, update, copied, kept, samples)


def draws_at_once(config: RunConfig) -> int:
    """Flow draws in memory at the same time: all of them without the stop-gradient."""
    settings = config.objective
    together = settings.flow_draws if config.kind.shares_graph else settings.draws_per_pass
    return min(together, settings.flow_draws)


def saved_bytes(block: nn.Module, *inputs: Tensor) -> int:
    """Bytes that a forward pass saves for the backward pass; parameters do not count."""
    own = {id(p) for p in block.parameters()}
    found: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if id(tensor) not in own:
            storage = tensor.untyped_storage()
            found[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = block(*inputs)  # kept alive: a freed storage could reuse an address
        total = sum(found.values())
    del output
    return total


def _encoder_bytes(config: RunConfig, tokens: int) -> int:
    """Bytes that all blocks save for the registers and `tokens` observation tokens."""
    size, half = config.model, config.precision == "bf16"
    first = size.num_registers + tokens
    entered = size.context_start if size.num_context_tokens else size.depth
    before, after = (
        _adaptive_block(size.width, size.num_heads, length, half)
        for length in (first, first + size.num_context_tokens)
    )
    return entered * before + (size.depth - entered) * after


def _decoder_bytes(config: RunConfig, decoder: Decoder) -> int:
    size = config.model
    queries = 0 if decoder.query_tokens is None else decoder.head.num_tokens
    shape = size.decoder_width, size.decoder_heads, size.decoder_mlp_width
    length, half = 1 + size.num_registers + queries, config.precision == "bf16"
    head = _head_bytes(decoder.head, size.decoder_width, half)
    return size.decoder_depth * _plain_block(*shape, length, half) + head


def _head_bytes(head: Head, width: int, half: bool) -> int:
    """Bytes per sample that convolutions of a head save; a head of one matrix saves few."""
    if not head.num_places:
        return 0
    with FakeTensorMode(allow_non_fake_inputs=True):
        return _per_sample(head.to_empty(device="cpu"), half, (head.num_tokens, width))


def _lpips_bytes(config: RunConfig) -> int:
    """Bytes per image that LPIPS saves, including the features of the target."""
    seen = get_modality(config.modality, config.modality_config).vgg_input()
    return 0 if seen is None else _lpips(*seen, config.precision == "bf16")


# Traces are cached: a plan compares shardings and batch sizes of the same network.


@cache
def _adaptive_block(width: int, heads: int, length: int, half: bool) -> int:
    with FakeTensorMode():
        angles = torch.empty(length, width // heads // 2)
        block = AdaptiveBlock(width, heads)
        return _per_sample(block, half, (length, width), (width,), extra=(angles,))


@cache
def _plain_block(width: int, heads: int, mlp_width: int, length: int, half: bool) -> int:
    with FakeTensorMode():
        return _per_sample(PlainBlock(width, heads, mlp_width), half, (length, width))


@cache
def _lpips(channels: int, height: int, width: int, half: bool) -> int:
    block = _Perceptual()  # its weights come from a file and are not fake
    with FakeTensorMode(allow_non_fake_inputs=True):
        return _per_sample(block, half, (channels, height, width))


def _per_sample(
    block: nn.Module, half: bool, *shapes: tuple[int, ...], extra: tuple[Tensor, ...] = ()
) -> int:
    """Bytes per additional sample: the difference between two samples and one."""
    counts = []
    for batch in (1, 2):
        inputs = [torch.empty(batch, *shape, requires_grad=True) for shape in shapes]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            counts.append(saved_bytes(block, *inputs, *extra))
    return counts[1] - counts[0]


class _Perceptual(nn.Module):
    """LPIPS as a block: the distance between two images."""

    def __init__(self) -> None:
        super().__init__()
        self.distance = Lpips.random(0)

    def forward(self, output: Tensor) -> Tensor:
        return self.distance.between(output, torch.empty_like(output))
