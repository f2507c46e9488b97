"""Equations (1) to (5): who gets which gradient, what each draw decides, how much is kept."""

import math
import weakref
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.conftest import rows_of
from torch import Tensor, nn

from openunite.batch import CLASS, Batch, Evidence, Given
from openunite.flow.path import interpolate
from openunite.flow.random import SlotRandom, Stream
from openunite.modalities.image.tokens import ImageModality, ImageSettings
from openunite.objective import LossTerm, UniteObjective

Build = Callable[..., Any]
STEP = 5


def slots(count: int = 6) -> SlotRandom:
    return SlotRandom(seed=1, step=STEP, slots=torch.arange(count))


def objective_of(models: Any, **settings: Any) -> UniteObjective:
    return UniteObjective(models.encoder, models.decoder, models.modality, **settings)


def gradients(loss: Tensor, model: nn.Module) -> dict[str, Tensor | None]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return dict(zip(names, found, strict=True))


def reached(grads: dict[str, Tensor | None]) -> set[str]:
    return {name for name, grad in grads.items() if grad is not None and bool(grad.any())}


def total(terms: Iterable[LossTerm]) -> Tensor:
    return sum(term.weight * term.value for term in terms)


# ---- gradients ------------------------------------------------------------------------------


def test_reconstruction_reaches_both_models_and_flow_only_the_denoising_pass(
    tiny_models: Build,
) -> None:
    models = tiny_models()
    reconstruction, flow, *_ = objective_of(models, flow_draws=2).terms(models.batch, STEP, slots())
    assert (reconstruction.name, flow.name) == ("reconstruction", "flow")
    by_term = {t.name: reached(gradients(t.value, models.encoder)) for t in (reconstruction, flow)}
    observed = {n for n, _ in models.encoder.named_parameters() if n.startswith("embedder.")}
    assert observed
    assert observed <= by_term["reconstruction"]
    assert observed.isdisjoint(by_term["flow"])
    assert by_term["flow"] == {n for n, _ in models.encoder.named_parameters()} - observed
    assert reached(gradients(reconstruction.value, models.decoder)) == {
        n for n, _ in models.decoder.named_parameters()
    }
    assert reached(gradients(flow.value, models.decoder)) == set()


def test_without_the_stop_gradient_flow_would_reach_the_patches(tiny_models: Build) -> None:
    """The truth table above can fail: the same error on latents that are not detached."""
    models = tiny_models()
    objective = objective_of(models)
    batch = models.modality.prepare(models.batch, None)
    z0 = objective.tokenize(batch, slots())
    t, noise = torch.full((6,), 0.5), torch.randn_like(z0)
    evidence = Evidence(batch.conditions)
    attached = objective.flow_error(z0, evidence, t, noise).mean()
    detached = objective.flow_error(z0.detach(), evidence, t, noise).mean()
    weight = models.encoder.embedder.projection.weight
    assert torch.autograd.grad(attached, weight, retain_graph=True)[0].abs().max() > 1e-4
    assert torch.autograd.grad(detached, weight, allow_unused=True)[0] is None


def test_the_latents_handed_out_are_detached(tiny_models: Build) -> None:
    models = tiny_models()
    terms = list(objective_of(models).terms(models.batch, STEP, slots()))
    assert terms[0].latents is not None
    assert not terms[0].latents.requires_grad
    assert all(term.latents is None for term in terms[1:])


@pytest.mark.parametrize("registers", [4, 3])
@pytest.mark.parametrize("num_classes", [0, 5])
def test_every_parameter_gets_a_gradient(
    tiny_models: Build, registers: int, num_classes: int
) -> None:
    """Every class occurs in the batch and the tokenizing pass is shown none: no exception."""
    models = tiny_models(num_registers=registers, num_classes=num_classes, decoder_input_width=20)
    total(objective_of(models).terms(models.batch, STEP, slots())).backward()
    for model in (models.encoder, models.decoder):
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name
    rows = models.encoder.class_embedding.weight.grad
    assert rows.abs().amax(dim=1).gt(0).all()


def test_without_in_context_tokens_only_their_empty_table_is_left_out(tiny_models: Build) -> None:
    models = tiny_models(num_context_tokens=0)
    total(objective_of(models).terms(models.batch, STEP, slots())).backward()
    without = [n for n, p in models.encoder.named_parameters() if p.grad is None]
    assert without == ["context_positions"]
    assert models.encoder.context_positions.numel() == 0


class DoubleRandom(SlotRandom):
    """The same numbers in float64."""

    def uniform(self, stream: Stream, *shape: int, draw: int = 0) -> Tensor:
        return super().uniform(stream, *shape, draw=draw).double()

    def normal(self, stream: Stream, *shape: int, draw: int = 0) -> Tensor:
        return super().normal(stream, *shape, draw=draw).double()


class DoubleImages(ImageModality):
    """Images in float64."""

    def reconstruction_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"l1": (output - batch.data).abs().mean()}

    def prepare(self, batch: Batch, random: SlotRandom | None) -> Batch:
        return batch.with_data(batch.data.double() / 255.0)


@pytest.mark.parametrize("draws_per_pass", [1, 3])
def test_term_by_term_is_the_gradient_of_the_sum(tiny_models: Build, draws_per_pass: int) -> None:
    models = tiny_models(num_registers=3)
    both = nn.ModuleList([models.encoder.double(), models.decoder.double()])
    modality = DoubleImages(ImageSettings(**models.settings["image"]))
    random = DoubleRandom(seed=1, step=STEP, slots=torch.arange(6))

    def terms(**settings: int) -> Iterable[LossTerm]:
        objective = UniteObjective(*both, modality, flow_draws=4, flow_weight=0.7, **settings)
        return objective.terms(models.batch, STEP, random)

    total(terms()).backward()
    expected = {n: p.grad.clone() for n, p in both.named_parameters()}
    both.zero_grad()
    for term in terms(draws_per_pass=draws_per_pass):
        (term.weight * term.value).backward()
    for name, parameter in both.named_parameters():
        assert (parameter.grad - expected[name]).norm() <= 1e-12 * expected[name].norm(), name


# ---- weights and draws ----------------------------------------------------------------------


class SameDraw(SlotRandom):
    """Every flow draw gets the numbers of draw 0."""

    def uniform(self, stream: Stream, *shape: int, draw: int = 0) -> Tensor:
        return super().uniform(stream, *shape)

    def normal(self, stream: Stream, *shape: int, draw: int = 0) -> Tensor:
        return super().normal(stream, *shape)


@pytest.mark.parametrize("draws", [1, 2, 7])
def test_the_loss_does_not_grow_with_the_number_of_draws(tiny_models: Build, draws: int) -> None:
    models = tiny_models()
    random = SameDraw(seed=1, step=STEP, slots=torch.arange(6))
    one, many = (
        total(objective_of(models, flow_draws=k, flow_weight=2.0).terms(models.batch, STEP, random))
        for k in (1, draws)
    )
    torch.testing.assert_close(many, one)


@pytest.mark.parametrize(("per_pass", "shares"), [(2, [2, 2, 1]), (5, [5]), (9, [5])])
def test_draws_that_share_a_pass_are_the_same_draws(
    tiny_models: Build, per_pass: int, shares: list[int]
) -> None:
    models = tiny_models()
    (_, *alone), (_, *together) = (
        objective_of(models, flow_draws=5, draws_per_pass=size).terms(models.batch, STEP, slots())
        for size in (1, per_pass)
    )
    assert [term.weight for term in together] == pytest.approx([0.3 * n / 5 for n in shares])
    torch.testing.assert_close(total(together), total(alone))


def test_draws_differ(tiny_models: Build) -> None:
    models = tiny_models()
    terms = list(objective_of(models, flow_draws=5).terms(models.batch, STEP, slots()))
    assert len({float(term.value.detach()) for term in terms[1:]}) == 5


def test_the_flow_weight_rises_linearly_then_stays(tiny_models: Build) -> None:
    objective = objective_of(tiny_models(), flow_weight=0.4, flow_ramp_steps=10)
    weights = [objective.flow_weight_at(step) for step in range(0, 25, 5)]
    assert weights == pytest.approx([0.0, 0.2, 0.4, 0.4, 0.4])


def test_without_a_ramp_the_flow_weight_is_full_from_the_first_step(tiny_models: Build) -> None:
    objective = objective_of(tiny_models(), flow_weight=0.4, flow_ramp_steps=0)
    assert [objective.flow_weight_at(step) for step in (0, 1, 100)] == [0.4] * 3


def test_terms_carry_the_weights_of_equation_5(tiny_models: Build) -> None:
    models = tiny_models()
    objective = objective_of(models, flow_draws=4, flow_weight=0.6, flow_ramp_steps=10)
    terms = list(objective.terms(models.batch, STEP, slots()))
    assert [term.weight for term in terms] == pytest.approx([1.0] + [0.6 * 0.5 / 4] * 4)
    torch.testing.assert_close(terms[0].value, sum(terms[0].parts.values()))


def test_flow_error_is_equation_5(tiny_models: Build) -> None:
    models = tiny_models()
    objective = objective_of(models)
    z0, noise = torch.randn(3, 4, 6), torch.randn(3, 4, 6)
    t, classes = torch.tensor([0.2, 0.9, 0.99]), torch.tensor([0, 3, 5])
    evidence = Evidence({CLASS: Given(classes, classes < 5)})
    found = objective.flow_error(z0, evidence, t, noise)
    for i, floor in enumerate([0.8, 0.1, 0.05]):
        z_t = t[i] * z0[i] + (1 - t[i]) * noise[i]
        row = slice(i, i + 1)
        denoised = models.encoder(z_t[None], t[row], evidence.rows(row))[0]
        expected = ((denoised - z0[i]) / floor).square().mean()
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=1e-4)


def test_the_loss_is_a_function_of_seed_step_and_slots(tiny_models: Build) -> None:
    models = tiny_models()
    objective = objective_of(models)

    def loss(seed: int = 1, step: int = STEP) -> float:
        torch.randn(3)  # torch's own generator moves on
        random = SlotRandom(seed, step, torch.arange(6))
        return float(total(objective.terms(models.batch, STEP, random)).detach())

    assert loss() == loss()
    assert loss(seed=2) != loss()
    assert loss(step=6) != loss()


def test_the_loss_of_a_batch_is_the_mean_over_its_micro_batches(tiny_models: Build) -> None:
    models = tiny_models()
    objective, batch = objective_of(models), models.batch
    whole = [t.value for t in objective.terms(batch, STEP, slots())]
    parts = []
    for first in (0, 3):
        part = rows_of(batch, slice(first, first + 3))
        random = SlotRandom(1, STEP, torch.arange(first, first + 3))
        parts.append([t.value for t in objective.terms(part, STEP, random)])
    for one, *micro in zip(whole, *parts, strict=True):
        torch.testing.assert_close(one, sum(micro) / 2, rtol=1e-5, atol=1e-6)


# ---- what the draws decide ------------------------------------------------------------------


def unmasked(count: int) -> Batch:
    """A batch of which only its size matters."""
    return Batch(torch.zeros(count, 0), torch.arange(count))


def repeated(models: Any, count: int, classes: Tensor) -> Batch:
    """One image `count` times, with these classes."""
    data = models.batch.data[:1].expand(count, -1, -1, -1)
    return Batch(data, torch.arange(count), conditions={CLASS: Given.of_all(classes)})


def test_reconstruction_noise_hits_half_of_the_samples_at_late_times(tiny_models: Build) -> None:
    count, value = 4000, 1e4
    z0 = torch.full((count, 4, 6), value)
    objective = objective_of(tiny_models())
    noisy = objective.perturb(z0, unmasked(count), slots(count))
    hit = (noisy != z0).flatten(1).any(dim=1)
    assert abs(float(hit.float().mean()) - 0.5) < 4 * math.sqrt(0.25 / count)
    t = noisy[hit].mean(dim=(1, 2)) / value
    assert float(t.min()) > 0.7 - 1e-3
    assert float(t.max()) < 1.0 + 1e-3
    assert float(t.mean()) == pytest.approx(0.85, abs=0.01)


def test_perturbed_latents_lie_on_the_path(tiny_models: Build) -> None:
    z0, random = torch.randn(50, 4, 6), slots(50)
    noisy = objective_of(tiny_models(), recon_noise_share=1.0).perturb(z0, unmasked(50), random)
    t = 0.7 + 0.3 * random.uniform(Stream.RECON_TIME)
    torch.testing.assert_close(
        noisy, interpolate(z0, random.normal(Stream.RECON_NOISE, 4, 6), t), rtol=0, atol=1e-6
    )


def test_no_share_or_a_start_of_one_is_no_noise(tiny_models: Build) -> None:
    models, given = tiny_models(), (torch.randn(20, 4, 6), unmasked(20), slots(20))
    z0 = given[0]
    assert torch.equal(objective_of(models, recon_noise_share=0.0).perturb(*given), z0)
    late = objective_of(models, recon_noise_start=1.0).perturb(*given)
    torch.testing.assert_close(late, z0, rtol=0, atol=1e-6)


class Recorder:
    """Keeps the arguments of every call of the encoder: (z_t, t, evidence, mask)."""

    def __init__(self, encoder: nn.Module) -> None:
        self.calls: list[tuple[Any, ...]] = []
        encoder.register_forward_pre_hook(lambda module, given: self.calls.append(given))


def test_labels_are_dropped_at_the_set_rate_and_only_when_denoising(tiny_models: Build) -> None:
    models, count = tiny_models(), 2000
    recorder = Recorder(models.encoder)
    objective = objective_of(models, label_dropout=0.25)
    classes = torch.arange(count) % 5
    with torch.no_grad():
        list(objective.terms(repeated(models, count, classes), STEP, slots(count)))
    tokenizing, *denoising = (evidence for _, _, evidence, _ in recorder.calls)
    assert not tokenizing.conditions
    assert tokenizing.observation is not None
    assert len(denoising) == 3
    dropped = [~evidence.conditions[CLASS].known for evidence in denoising]
    for drop, evidence in zip(dropped, denoising, strict=True):
        assert abs(float(drop.float().mean()) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / count)
        assert torch.equal(evidence.conditions[CLASS].values[~drop], classes[~drop])
        assert evidence.observation is None
    assert not torch.equal(dropped[0], dropped[1])


def test_times_of_the_two_passes(tiny_models: Build) -> None:
    """Tokenizing at t in [0, 0.01]; denoising with a median of 1/3, the shifted sigmoid of 0."""
    models, count = tiny_models(), 2000
    recorder = Recorder(models.encoder)
    batch = repeated(models, count, torch.zeros(count, dtype=torch.int64))
    with torch.no_grad():
        list(objective_of(models, flow_draws=2).terms(batch, STEP, slots(count)))
    tokenizing, first, second = (call[1] for call in recorder.calls)
    assert 0.0 < float(tokenizing.min()) < 1e-4
    assert 0.0099 < float(tokenizing.max()) <= 0.01
    for t in (first, second):
        assert 0.0 < float(t.min()) < float(t.max()) < 1.0
        assert float((t < 1 / 3).float().mean()) == pytest.approx(0.5, abs=4 * 0.5 / count**0.5)
    assert not torch.equal(first, second)


def test_every_draw_has_its_own_flow_noise(tiny_models: Build) -> None:
    """Equation (3) solved for eps from what the encoder was given."""
    models, count = tiny_models(), 6
    recorder = Recorder(models.encoder)
    reconstruction, *flow = objective_of(models).terms(models.batch, STEP, slots(count))
    assert len(flow) == 3
    for draw, (z_t, t, *_) in enumerate(recorder.calls[1:]):
        t = t[:, None, None]
        noise = (z_t - t * reconstruction.latents) / (1 - t)
        expected = slots(count).normal(Stream.FLOW_NOISE, 4, 6, draw=draw)
        torch.testing.assert_close(noise, expected, rtol=1e-3, atol=1e-4)


def test_tokenizing_noise_is_standard_and_new_at_every_step(tiny_models: Build) -> None:
    models = tiny_models()
    recorder = Recorder(models.encoder)
    batch = models.modality.prepare(models.batch, None)
    for step in (1, 2):
        random = SlotRandom(1, step, torch.arange(6))
        objective_of(models).tokenize(batch, random)
        assert torch.equal(recorder.calls[-1][0], random.normal(Stream.REGISTERS, 4, 6))
    assert not torch.equal(recorder.calls[0][0], recorder.calls[1][0])


def test_a_sample_without_a_class_stays_without(tiny_models: Build) -> None:
    """Dropping classes at random, or not at all, makes none known."""
    models = tiny_models()
    recorder = Recorder(models.encoder)
    list(objective_of(models, label_dropout=0.0).terms(models.batch, STEP, slots()))
    known = [evidence.conditions[CLASS].known.tolist() for _, _, evidence, _ in recorder.calls[1:]]
    assert known == [[True] * 5 + [False]] * 3


def test_data_without_conditions_show_nothing_when_denoising(tiny_models: Build) -> None:
    models = tiny_models()
    recorder = Recorder(models.encoder)
    batch = replace(models.batch, conditions={})
    list(objective_of(models).terms(batch, STEP, slots()))
    assert len(recorder.calls) == 4
    assert not any(evidence.conditions for _, _, evidence, _ in recorder.calls)


# ---- masks ----------------------------------------------------------------------------------


def test_flow_error_leaves_padding_out(tiny_models: Build) -> None:
    objective = objective_of(tiny_models())
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    z0, noise = torch.randn(2, 4, 6), torch.randn(2, 4, 6)
    t, known = torch.tensor([0.3, 0.8]), torch.tensor([True, False])
    evidence = Evidence({CLASS: Given(torch.tensor([1, 5]), known)})
    found = objective.flow_error(z0, evidence, t, noise, mask)
    filled = torch.where(mask[:, :, None], z0, 100.0)
    torch.testing.assert_close(objective.flow_error(filled, evidence, t, noise, mask), found)
    for i, valid in enumerate((3, 2)):
        row = slice(i, i + 1)
        part = z0[row, :valid], evidence.rows(row), t[row], noise[row, :valid]
        alone = objective.flow_error(*part)
        torch.testing.assert_close(found[row], alone, rtol=1e-4, atol=1e-5)
    everything = torch.ones_like(mask)
    torch.testing.assert_close(
        objective.flow_error(z0, evidence, t, noise, everything),
        objective.flow_error(z0, evidence, t, noise),
    )


def test_a_mask_reaches_every_pass(tiny_models: Build) -> None:
    models = tiny_models()
    recorder = Recorder(models.encoder)
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[1:, 3] = False
    decoded: list[Tensor] = []
    models.decoder.register_forward_pre_hook(lambda module, given: decoded.append(given[1]))
    list(objective_of(models).terms(replace(models.batch, mask=mask), STEP, slots()))
    assert len(recorder.calls) == 4
    assert all(torch.equal(given[-1], mask) for given in [*recorder.calls, decoded])


# ---- memory ---------------------------------------------------------------------------------


class LiveTensors:
    """Bytes that autograd keeps for backward passes: now, and at the worst moment."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    @contextmanager
    def counted(self) -> Any:
        class Kept:
            def __init__(self, tensor: Tensor) -> None:
                self.tensor = tensor

        def pack(tensor: Tensor) -> Kept:
            kept, size = Kept(tensor), tensor.nbytes
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(kept, self.forget, size)
            return kept

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
            yield self

    def forget(self, size: int) -> None:
        self.now -= size


def peak_memory(models: Any, draws: int, *, one_at_a_time: bool) -> int:
    objective = objective_of(models, flow_draws=draws)
    with LiveTensors().counted() as live:
        terms: Iterable[LossTerm] = objective.terms(models.batch, STEP, slots())
        for term in terms if one_at_a_time else list(terms):
            term.value.backward()
        del term, terms
    assert live.now == 0
    return live.peak


def test_memory_does_not_grow_with_the_number_of_draws(tiny_models: Build) -> None:
    models = tiny_models()
    one, seven = (peak_memory(models, k, one_at_a_time=True) for k in (1, 7))
    assert seven <= 1.1 * one
    assert peak_memory(models, 7, one_at_a_time=False) > 2 * one  # the counter does count
