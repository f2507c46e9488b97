"""What every modality promises the core. A modality's test class inherits `ModalityContract`."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tests.conftest import perturb, rows_of
from torch import Tensor, nn

from openunite.batch import Batch, Evidence
from openunite.flow.random import SlotRandom
from openunite.modality import Modality, get_modality
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import GenerativeEncoder
from openunite.objective import sum_of

WIDTH, CHANNELS = 32, 6
Settings = Mapping[str, Any]


def assert_equal(first: Batch, second: Batch) -> None:
    """Bit for bit, in every part."""
    one, other = (
        {
            "data": batch.data,
            "index": batch.index,
            "mask": torch.ones(0) if batch.mask is None else batch.mask,
            **{f"{name} values": given.values for name, given in batch.conditions.items()},
            **{f"{name} known": given.known for name, given in batch.conditions.items()},
        }
        for batch in (first, second)
    )
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


class ModalityContract:
    """Inherit, set `modality` and `cases` (name -> settings, odd sizes among them), write `stored`.

    A test that takes `settings` runs once per case, one that takes `registers` for K < N, K = N
    and K > N where `any_registers` is True, and for K = N otherwise.
    """

    modality: ClassVar[str]
    cases: ClassVar[dict[str, Settings]]
    any_registers: ClassVar[bool] = True

    def stored(self, settings: Settings, count: int) -> Batch:
        """A batch as a dataset hands it out; samples differ from each other."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "settings" in metafunc.fixturenames:
            metafunc.parametrize("settings", list(self.cases.values()), ids=list(self.cases))
        if "extra_registers" in metafunc.fixturenames:
            metafunc.parametrize("extra_registers", [-1, 0, 3] if self.any_registers else [0])

    # ---- helpers ----------------------------------------------------------------------------

    def build(self, settings: Settings) -> Modality:
        return get_modality(self.modality, settings)

    def models(
        self, settings: Settings, extra_registers: int = 0
    ) -> tuple[GenerativeEncoder, Decoder]:
        """Small models off their initialization, K = N + extra."""
        shared: dict[str, Any] = {
            "modality": self.modality,
            "modality_config": dict(settings),
            "num_registers": self.build(settings).embedder(WIDTH).num_tokens + extra_registers,
            "latent_channels": CHANNELS,
            "width": WIDTH,
            "num_heads": 2,
        }
        encoder = GenerativeEncoder(**shared, depth=2, num_context_tokens=2, context_start=1)
        decoder = Decoder(**shared, depth=1, mlp_width=48)
        perturb(encoder)
        perturb(decoder)
        return encoder, decoder

    def prepared(self, settings: Settings, count: int = 3) -> Batch:
        return self.build(settings).prepare(self.stored(settings, count), None)

    @staticmethod
    def tokenize(encoder: GenerativeEncoder, batch: Batch) -> Tensor:
        count = len(batch)
        registers = encoder.config.num_registers
        if batch.mask is not None:
            registers = batch.mask.shape[1]
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(count, registers, CHANNELS, generator=generator)
        return encoder(noise, torch.zeros(count), Evidence(observation=batch.data), batch.mask)

    # ---- the contract -----------------------------------------------------------------------

    def test_shapes(self, settings: Settings) -> None:
        batch, modality = self.prepared(settings), self.build(settings)
        embedder, head = modality.embedder(WIDTH), modality.head(WIDTH)
        tokens = embedder(batch.data)
        assert tokens.shape == (3, embedder.num_tokens, WIDTH)
        assert head.positions.shape == (head.num_tokens, WIDTH)
        losses = modality.reconstruction_losses(head(torch.randn(3, head.num_tokens, WIDTH)), batch)
        assert losses
        assert all(loss.shape == () and bool(loss.isfinite()) for loss in losses.values())

    def test_gradients_flow_through_both_ends(
        self, settings: Settings, extra_registers: int
    ) -> None:
        batch, modality = self.prepared(settings), self.build(settings)
        encoder, decoder = self.models(settings, extra_registers)
        output = decoder(self.tokenize(encoder, batch), batch.mask)
        sum_of(modality.reconstruction_losses(output, batch)).backward()
        ends: list[nn.Module] = [encoder.embedder, decoder.head]
        for name, parameter in (pair for end in ends for pair in end.named_parameters()):
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name

    def test_samples_are_told_apart(self, settings: Settings) -> None:
        batch = self.prepared(settings)
        encoder, _ = self.models(settings)
        z0 = self.tokenize(encoder, batch)
        assert (z0[0] - z0[1]).abs().max() > 1e-3

    def test_models_are_saved_and_loaded_bit_for_bit(
        self, settings: Settings, extra_registers: int, tmp_path: Path
    ) -> None:
        batch = self.prepared(settings)
        encoder, decoder = self.models(settings, extra_registers)
        encoder.save_pretrained(tmp_path / "encoder")
        decoder.save_pretrained(tmp_path / "decoder")
        encoder_again = GenerativeEncoder.from_pretrained(tmp_path / "encoder")
        decoder_again = Decoder.from_pretrained(tmp_path / "decoder")
        z0 = self.tokenize(encoder, batch)
        assert torch.equal(z0, self.tokenize(encoder_again, batch))
        output, again = decoder(z0, batch.mask), decoder_again(z0, batch.mask)
        assert torch.equal(output, again)
        assert encoder_again.config.modality_config == dict(settings)

    def test_an_unknown_setting_is_refused_by_name(self, settings: Settings) -> None:
        with pytest.raises(ValueError, match="no_such_setting"):
            self.build({**settings, "no_such_setting": 1})

    def test_preparation_is_keyed_by_slot(self, settings: Settings) -> None:
        """A sample is augmented in the same way whoever its batch mates are."""
        stored, modality = self.stored(settings, 6), self.build(settings)
        whole = modality.prepare(stored, SlotRandom(0, 3, torch.arange(6)))
        for part in ([4], [5, 0, 2], [1, 3]):
            random = SlotRandom(0, 3, torch.tensor(part))
            assert_equal(modality.prepare(rows_of(stored, part), random), rows_of(whole, part))

    def test_preparation_without_random_is_fixed_and_changes_no_input(
        self, settings: Settings
    ) -> None:
        stored, modality = self.stored(settings, 4), self.build(settings)
        kept = deepcopy(stored)
        first, second = modality.prepare(stored, None), modality.prepare(stored, None)
        modality.prepare(stored, SlotRandom(0, 1, torch.arange(4)))
        assert_equal(first, second)
        assert_equal(stored, kept)
        assert_equal(first, stored.with_data(first.data))
        assert first.data.is_floating_point()
