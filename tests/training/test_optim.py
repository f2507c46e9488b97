"""Muon against torch's own and against a loop; the table of parameters."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from openunite.catalog import get_recipe, recipes
from openunite.training.build import build_models
from openunite.training.config import OptimizerConfig
from openunite.training.ema import EMA
from openunite.training.optim import (
    OPTIMIZER_TABLE,
    BatchedMuon,
    build_optimizers,
    optimizer_of,
    orthogonalize,
    partition,
)
from openunite.training.sharding import clip_gradients

Build = Callable[..., Any]
SHAPES = [(8, 8), (16, 8), (8, 24), (16, 8), (12, 12), (8, 8)]
STEPS, RATE = 6, 0.02
LOSS = 3.0  # of accuracy at most, against the plain loop: G squares the condition number


def start(size: float = 0.0, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """Zeros by default, so that differences of parameters hold updates to all digits."""
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(size * torch.randn(s, generator=generator).to(dtype)) for s in SHAPES]


def grads_at(step: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(s, generator=generator).to(dtype) for s in SHAPES]


def updates_of(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]
) -> list[list[Tensor]]:
    """What each step added to each parameter."""
    found = []
    for step in range(STEPS):
        for p, grad in zip(parameters, grads_at(step, parameters[0].dtype), strict=True):
            p.grad = grad
        optimizer.step()
        found.append([p.detach().clone() for p in parameters])
        for p in parameters:
            p.detach().zero_()
    return found


def by_hand(dtype: torch.dtype) -> list[list[Tensor]]:
    """Muon one matrix at a time: METHOD.md section 3."""
    momenta = [torch.zeros(s, dtype=dtype) for s in SHAPES]
    found = []
    for step in range(STEPS):
        row = []
        for i, grad in enumerate(grads_at(step, dtype)):
            momenta[i] = 0.95 * momenta[i] + 0.05 * grad
            direction = newton_schulz(0.05 * grad + 0.95 * momenta[i])
            row.append(-RATE * 0.2 * max(grad.shape) ** 0.5 * direction)
        found.append(row)
    return found


def newton_schulz(x: Tensor) -> Tensor:
    """Five steps on one matrix, as they are written."""
    if x.shape[0] > x.shape[1]:
        return newton_schulz(x.T).T
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def error_of(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def assert_near(found: list[list[Tensor]], expected: list[list[Tensor]], tolerance: float) -> None:
    for step, (row, other) in enumerate(zip(found, expected, strict=True)):
        for a, b in zip(row, other, strict=True):
            error = error_of(a, b)
            assert error <= tolerance, f"step {step}, shape {tuple(a.shape)}: {error:.2e}"


def test_batches_equal_a_loop_over_matrices() -> None:
    parameters = start(dtype=torch.float64)
    found = updates_of(BatchedMuon(parameters, lr=RATE), parameters)
    assert_near(found, by_hand(torch.float64), 1e-13)


def test_float32_updates_equal_those_of_a_loop() -> None:
    """Within 1e-6, and about as near to the exact ones."""
    parameters = start()
    found = updates_of(BatchedMuon(parameters, lr=RATE), parameters)
    for rows in zip(found, by_hand(torch.float32), by_hand(torch.float64), strict=True):
        for ours, loop, exact in zip(*rows, strict=True):
            assert float((ours - loop).abs().max()) <= 1e-6
            assert error_of(ours, exact) <= LOSS * error_of(loop, exact)


def with_spectrum(kind: str, shape: tuple[int, int], seed: int) -> Tensor:
    """Noise, or its singular vectors with values that decay to 1e-6, or are 1e-7 but for a few."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()
    u, values, vt = torch.linalg.svd(noise, full_matrices=False)
    if kind == "decaying":
        values = torch.logspace(0.0, -6.0, len(values), dtype=torch.float64)
    elif kind == "low rank":
        values = torch.full_like(values, 1e-7)
        values[: max(1, len(values) // 4)] = 1.0
    return (u * values @ vt).float()


@pytest.mark.parametrize("kind", ["noise", "decaying", "low rank"])
@pytest.mark.parametrize(
    "shape", [(8, 8), (8, 16), (24, 8), (16, 64), (12, 100), (48, 192), (1, 5)]
)
def test_what_the_gram_matrix_loses(shape: tuple[int, int], kind: str) -> None:
    """Most where values decay: 2.74 times the error of the loop was the largest in 40 seeds."""
    for seed in range(10):
        matrix = with_spectrum(kind, shape, seed)
        loop, exact = newton_schulz(matrix), newton_schulz(matrix.double())
        ours = orthogonalize(matrix[None])[0]
        assert error_of(ours, exact) <= LOSS * error_of(loop, exact)
        update = RATE * 0.2 * max(shape) ** 0.5
        assert float((ours - loop).abs().max()) * update <= 1e-6


def torch_muon(parameters: list[nn.Parameter]) -> torch.optim.Muon:
    return torch.optim.Muon(
        parameters,
        lr=RATE,
        weight_decay=0.0,
        momentum=0.95,
        nesterov=True,
        adjust_lr_fn="match_rms_adamw",
    )


def test_it_agrees_with_torch_muon_in_bfloat16() -> None:
    own, other = start(), start()
    found = updates_of(BatchedMuon(own, lr=RATE, precision=torch.bfloat16), own)
    assert_near(found, updates_of(torch_muon(other), other), 2.0**-7)


def test_its_state_continues_in_torch_muon() -> None:
    own, other = start(), start()
    ours, theirs = BatchedMuon(own, lr=RATE), torch_muon(other)
    updates_of(ours, own)
    assert {frozenset(state) for state in ours.state.values()} == {frozenset(["momentum_buffer"])}
    layout = theirs.state_dict()
    theirs.load_state_dict({**layout, "state": ours.state_dict()["state"]})
    for p, q in zip(own, other, strict=True):
        assert torch.equal(ours.state[p]["momentum_buffer"], theirs.state[q]["momentum_buffer"])


def test_weight_decay_shrinks_before_the_update() -> None:
    plain, decayed = start(1.0), start(1.0)
    before = [p.detach().clone() for p in plain]
    for optimizer in (
        BatchedMuon(plain, lr=RATE),
        BatchedMuon(decayed, lr=RATE, weight_decay=0.5),
    ):
        for p, grad in zip(optimizer.param_groups[0]["params"], grads_at(0), strict=True):
            p.grad = grad
        optimizer.step()
    for p, q, b in zip(plain, decayed, before, strict=True):
        torch.testing.assert_close(q, p - RATE * 0.5 * b)


def test_parameters_without_a_gradient_stay() -> None:
    parameters = start()
    kept = parameters[2].detach().clone()
    optimizer = BatchedMuon(parameters, lr=RATE)
    optimizer.step()
    assert not optimizer.state
    for i, grad in enumerate(grads_at(0)):
        parameters[i].grad = None if i == 2 else grad
    optimizer.step()
    assert torch.equal(parameters[2], kept)
    assert len(optimizer.state) == len(parameters) - 1


@pytest.mark.parametrize("shape", [(3, 16, 64), (2, 64, 16), (4, 20, 20), (1, 1, 5)])
def test_orthogonalization_brings_singular_values_near_one(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    u, _, vt = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    spectrum = torch.logspace(-1.0, 0.0, u.shape[-1])
    found = torch.linalg.svdvals(orthogonalize(50.0 * u * spectrum @ vt))
    # The band of these coefficients: the quintic, applied five times to [0.01, 1].
    assert float(found.min()) > 0.681
    assert float(found.max()) < 1.135


def test_orthogonalization_keeps_the_singular_vectors() -> None:
    matrices = torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(0)).double()
    result = orthogonalize(matrices)
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    rotated = u.mT @ result @ vt.mT
    off = rotated - torch.diag_embed(rotated.diagonal(dim1=1, dim2=2))
    assert off.abs().max() < 1e-10


def test_a_gradient_of_zeros_changes_nothing() -> None:
    assert torch.equal(orthogonalize(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), ()])
def test_what_is_no_matrix_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="give it to AdamW"):
        BatchedMuon([nn.Parameter(torch.zeros(shape))])


# ---- the table ------------------------------------------------------------------------------


def named(encoder: nn.Module, decoder: nn.Module) -> nn.ModuleDict:
    """Under the names that the trainer uses."""
    return nn.ModuleDict({"encoder": encoder, "decoder": decoder})


@pytest.mark.parametrize("recipe", recipes())
def test_every_parameter_of_every_recipe_has_one_optimizer(recipe: str) -> None:
    config = replace(get_recipe(recipe)(), num_classes=10, conditions={})  # these need data
    if config.modality != "image":  # what else follows from the data
        found = {"elements": [1, 6, 8], "max_atoms": 5, **config.modality_config}
        config = replace(config, modality_config=found)
    with torch.device("meta"):
        model = named(*build_models(config))
    assert all(p.requires_grad for p in model.parameters())
    groups = partition(model)
    names = [name for group in groups.values() for name, _ in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert all(len(groups[name]) > 10 for name in ("muon", "adamw"))


@pytest.mark.parametrize("registers", [4, 7])
def test_built_optimizers_hold_each_parameter_once(tiny_models: Build, registers: int) -> None:
    models = tiny_models(num_registers=registers, decoder_input_width=20)
    model = named(models.encoder, models.decoder)
    optimizers = build_optimizers(model, OptimizerConfig(3e-3, 7e-4, muon_momentum=0.9))
    assert {g["momentum"] for g in optimizers["muon"].param_groups} == {0.9}
    held = [p for o in optimizers.values() for g in o.param_groups for p in g["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(model.parameters()))
    for name, rate in (("muon", 3e-3), ("adamw", 7e-4)):
        assert {g["initial_lr"] for g in optimizers[name].param_groups} == {rate}
        assert {g["lr"] for g in optimizers[name].param_groups} == {rate}
        assert {g["weight_decay"] for g in optimizers[name].param_groups} == {0.0}


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("encoder.blocks.0.attention.qkv.weight", "muon"),
        ("encoder.blocks.11.mlp.down.weight", "muon"),
        ("encoder.blocks.3.modulation.weight", "muon"),
        ("encoder.modulation_out.weight", "muon"),
        ("encoder.time_embedding.mlp_in.weight", "muon"),
        ("decoder.blocks.0.mlp_up.weight", "muon"),
        ("encoder.blocks.0.attention.qkv.bias", "adamw"),
        ("encoder.blocks.0.attention.q_norm", "adamw"),
        ("encoder.blocks.0.norm_block.weight", "adamw"),
        ("encoder.register_positions", "adamw"),
        ("encoder.register_input.weight", "adamw"),
        ("encoder.latent_output.weight", "adamw"),
        ("encoder.latent_norm.weight", "adamw"),
        ("encoder.class_embedding.weight", "adamw"),
        ("encoder.embedder.projection.weight", "adamw"),
        ("decoder.head.projection.weight", "adamw"),
        ("decoder.blocks.0.norm_mlp.weight", "adamw"),
        ("decoder.cls_token", "adamw"),
        ("decoder.query_tokens", "adamw"),
        ("decoder.widen.weight", "adamw"),
    ],
)
def test_hidden_matrices_go_to_muon_and_the_rest_to_adamw(name: str, optimizer: str) -> None:
    assert optimizer_of(name) == optimizer


def test_every_row_of_the_table_is_used(tiny_models: Build) -> None:
    models = tiny_models(num_registers=7, decoder_input_width=20)
    names = [name for name, _ in named(models.encoder, models.decoder).named_parameters()]
    first = {next(row for row in OPTIMIZER_TABLE if _matches(row, name)) for name in names}
    assert first == set(OPTIMIZER_TABLE)


def _matches(row: tuple[str, str], name: str) -> bool:
    return re.search(row[0], name) is not None


def test_an_unknown_parameter_is_refused_by_name() -> None:
    model = nn.ModuleDict({"adapter": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match=r"no row of OPTIMIZER_TABLE matches .*'adapter.weight'"):
        partition(model)


def test_frozen_parameters_are_left_out(tiny_models: Build) -> None:
    models = tiny_models()
    models.encoder.requires_grad_(False)
    model = named(models.encoder, models.decoder)
    names = [name for group in partition(model).values() for name, _ in group]
    assert names
    assert all(name.startswith("decoder.") for name in names)


@pytest.mark.parametrize("most", [0.1, 1e3])
def test_clipping_is_that_of_torch(most: float) -> None:
    """Above the limit and below it; a parameter without a gradient, and one without elements."""
    grads = [torch.randn(3, 4), None, torch.randn(7), torch.randn(0, 5)]
    ours, theirs = ([torch.zeros(2 if g is None else g.shape) for g in grads] for _ in range(2))
    for parameters in (ours, theirs):
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = None if grad is None else grad.clone()
    norm = clip_gradients(ours, most)
    assert torch.equal(norm, nn.utils.clip_grad_norm_(theirs, most))
    for a, b in zip(ours, theirs, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            assert torch.equal(a.grad, b.grad)


class Operations(TorchDispatchMode):
    """How many operations are started; `detach` is a view, and none."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func._schema.name != "aten::detach"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("what", ["muon", "average", "clipping"])
def test_more_tensors_are_not_more_operations(what: str) -> None:
    """Tensors of one shape go together: one at a time costs a GPU the start of each operation."""
    counts = []
    for number in (3, 9):
        model = nn.ModuleList(nn.Linear(8, 8, bias=False) for _ in range(number))
        parameters = list(model.parameters())
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        muon, average = BatchedMuon(parameters), EMA(model, 0.9)
        muon.step()  # makes the state
        with Operations() as seen:
            if what == "muon":
                muon.step()
            elif what == "average":
                average.update(3)
            else:
                clip_gradients(parameters, 0.1)
        counts.append(seen.count)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(("device", "expected"), [("cuda", torch.bfloat16), ("cpu", torch.float32)])
def test_a_gpu_orthogonalizes_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, device: str, expected: torch.dtype
) -> None:
    """On tensors without contents: no GPU is needed."""
    seen: list[torch.dtype] = []

    def noted(matrices: Tensor) -> Tensor:
        seen.append(matrices.dtype)
        return matrices

    monkeypatch.setattr("openunite.training.optim.orthogonalize", noted)
    with FakeTensorMode():
        parameters = [nn.Parameter(torch.empty(4, 8, device=device)) for _ in range(2)]
        for parameter in parameters:
            parameter.grad = torch.empty(4, 8, device=device)
        BatchedMuon(parameters).step()
    assert seen == [expected]
