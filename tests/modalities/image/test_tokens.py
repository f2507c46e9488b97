"""Images: the modality contract, patches in, pixels out, settings."""

from typing import ClassVar

import pytest
import torch
from tests.conftest import perturb
from tests.modalities.contract import ModalityContract, Settings
from torch import Tensor

from openunite.batch import CLASS, Batch, Conditions, Given
from openunite.flow.random import SlotRandom, Stream
from openunite.modalities.image.tokens import ImageShape
from openunite.modality import get_modality
from openunite.models.decoder import Decoder
from openunite.nn.embeddings import sincos_grid


def settings_of(
    height: int = 8, width: int = 12, channels: int = 3, patch: int = 4, **more: object
) -> dict[str, object]:
    shape = {"height": height, "width": width, "channels": channels, "patch_size": patch}
    return shape | more


def pixels(settings: Settings, count: int) -> Tensor:
    shape = (count, settings["channels"], settings["height"], settings["width"])
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def stored(data: Tensor, conditions: Conditions | None = None) -> Batch:
    return Batch(data, torch.arange(len(data)), conditions=conditions or {})


class TestContract(ModalityContract):
    modality = "image"
    cases: ClassVar[dict[str, Settings]] = {
        "square, one channel": settings_of(8, 8, 1, 4, flip=True),
        "wide, released positions": settings_of(8, 12, 3, 4, patch_positions="zero"),
        "odd sizes, two channels": settings_of(7, 5, 2, 3, flip=True),
        "tall, four channels": settings_of(9, 4, 4, 2),
        "one patch": settings_of(5, 5, 3, 5),
        "convolutional head, odd sizes": settings_of(7, 5, 3, 3, head="convolutional"),
    }

    # With one patch there is no K < N.
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "settings" in metafunc.fixturenames and "extra_registers" in metafunc.fixturenames:
            pairs = [
                pytest.param(settings, extra, id=f"{name}, {extra:+d} registers")
                for name, settings in self.cases.items()
                for extra in (-1, 0, 3)
                if not (name == "one patch" and extra < 0)
            ]
            metafunc.parametrize(("settings", "extra_registers"), pairs)
        else:
            super().pytest_generate_tests(metafunc)

    def stored(self, settings: Settings, count: int) -> Batch:
        classes = {CLASS: Given(torch.arange(count), torch.arange(count) < 2)}
        return stored(pixels(settings, count), classes)


def test_patches_are_read_row_by_row_by_one_linear_map() -> None:
    settings = settings_of()
    embedder = get_modality("image", settings).embedder(16)
    image = pixels(settings, 2).float() / 255
    weight, bias = embedder.projection.weight.flatten(1), embedder.projection.bias
    tokens = []
    for row in range(2):
        for column in range(3):
            patch = image[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten(1)
            tokens.append(patch @ weight.T + bias + sincos_grid(2, 3, 16)[3 * row + column])
    torch.testing.assert_close(embedder(image), torch.stack(tokens, dim=1))


def test_the_convolutional_head_starts_as_the_linear_one() -> None:
    sizes = {"num_registers": 6, "latent_channels": 5, "width": 32, "depth": 1, "num_heads": 2}
    settings = settings_of(7, 11, 3, 4)
    plain, refined = (
        Decoder("image", {**settings, "head": head}, **sizes, mlp_width=48)
        for head in ("linear", "convolutional")
    )
    missing, unexpected = refined.load_state_dict(plain.state_dict(), strict=False)
    assert unexpected == []
    assert all(name.startswith("head.refinement.") for name in missing)
    latents = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(refined(latents), plain(latents))


def test_the_convolutional_head_sees_across_the_borders_of_patches() -> None:
    """Another state changes its own patch, and three pixels beyond it once there are weights."""
    head = get_modality("image", settings_of(12, 12, 1, 4, head="convolutional")).head(16)
    perturb(head)
    states = torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(0))
    changed = states.clone()
    changed[:, 4] += 1.0
    moved = (head(changed) - head(states)).detach()[0, 0] != 0.0
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[1:11, 1:11] = True
    assert torch.equal(moved, expected)


def test_a_patch_vector_runs_row_column_channel() -> None:
    """METHOD.md: patch vector index = (row * patch + col) * channels + channel."""
    head = get_modality("image", settings_of()).head(4 * 4 * 3)
    with torch.no_grad():
        head.projection.weight.copy_(torch.eye(48))
        head.projection.bias.zero_()
    states = torch.arange(6 * 48, dtype=torch.float32).reshape(1, 6, 48)
    image = head(states).detach()
    for y, x, channel in [(0, 0, 0), (0, 0, 2), (3, 1, 1), (5, 2, 0), (7, 11, 2), (2, 9, 1)]:
        patch, inside = 3 * (y // 4) + x // 4, ((y % 4) * 4 + x % 4) * 3 + channel
        assert float(image[0, channel, y, x]) == 48 * patch + inside


@pytest.mark.parametrize(("height", "width", "patch"), [(7, 5, 3), (8, 9, 4), (5, 8, 4)])
def test_odd_sizes_are_filled_with_the_last_row_and_column(
    height: int, width: int, patch: int
) -> None:
    settings = settings_of(height, width, 2, patch)
    odd = get_modality("image", settings).embedder(16)
    rows, columns = odd.shape.grid
    assert (rows, columns) == (-(-height // patch), -(-width // patch))
    even = get_modality("image", settings_of(rows * patch, columns * patch, 2, patch)).embedder(16)
    even.load_state_dict(odd.state_dict())
    image = pixels(settings, 2).float() / 255
    y = torch.arange(rows * patch).clamp_max(height - 1)
    x = torch.arange(columns * patch).clamp_max(width - 1)
    torch.testing.assert_close(odd(image), even(image[:, :, y][:, :, :, x]))


def test_released_positions_are_zero() -> None:
    embedder = get_modality("image", settings_of(patch_positions="zero")).embedder(16)
    assert torch.equal(embedder.positions, torch.zeros(6, 16))
    assert not embedder.positions.requires_grad


@pytest.mark.parametrize("shape", [(2, 3, 12, 8), (2, 1, 8, 12), (2, 3, 8, 11)])
def test_other_images_are_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    embedder = get_modality("image", settings_of()).embedder(16)
    with pytest.raises(ValueError, match=r"\(B, 3, 8, 12\), got \(2, "):
        embedder(torch.zeros(shape))


def test_stored_bytes_become_numbers_from_zero_to_one() -> None:
    data = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)
    batch = stored(data.expand(3, 3, 8, 12))
    prepared = get_modality("image", settings_of(flip=True)).prepare(batch, None).data
    torch.testing.assert_close(prepared[:, 0, 0, 0], torch.tensor([0.0, 0.2, 1.0]))


def test_flip_mirrors_half_of_the_images_left_to_right() -> None:
    settings = settings_of(flip=True)
    batch = stored(pixels(settings, 1).expand(600, -1, -1, -1))
    random = SlotRandom(0, 0, torch.arange(600))
    data = get_modality("image", settings).prepare(batch, random).data
    plain = batch.data[0].float() / 255
    same = (data == plain).flatten(1).all(dim=1)
    mirrored = (data == plain.flip(-1)).flatten(1).all(dim=1)
    assert (same ^ mirrored).all()
    assert torch.equal(mirrored, random.uniform(Stream.AUGMENT) < 0.5)
    assert 240 < int(mirrored.sum()) < 360


def test_without_flip_nothing_is_mirrored() -> None:
    settings = settings_of()
    batch = stored(pixels(settings, 40))
    modality, random = get_modality("image", settings), SlotRandom(0, 0, torch.arange(40))
    with_random, without = (modality.prepare(batch, r).data for r in (random, None))
    assert torch.equal(with_random, without)


def test_the_reconstruction_loss_is_the_mean_absolute_error() -> None:
    modality = get_modality("image", settings_of())
    data, output = torch.rand(2, 3, 8, 12), torch.rand(2, 3, 8, 12)
    losses = modality.reconstruction_losses(output, stored(data))
    torch.testing.assert_close(losses["l1"], (output - data).abs().mean())
    assert float(modality.reconstruction_losses(data, stored(data))["l1"]) == 0.0


def test_pixel_errors_are_weighed() -> None:
    settings = {"height": 4, "width": 4, "channels": 1, "patch_size": 2}
    output, data = torch.full((2, 1, 4, 4), 0.75), torch.full((2, 1, 4, 4), 0.25)
    both = get_modality("image", {**settings, "l1_weight": 0.5, "l2_weight": 6.0})
    losses = both.reconstruction_losses(output, stored(data))
    assert {k: float(v) for k, v in losses.items()} == {"l1": 0.25, "l2": 1.5}
    squared = get_modality("image", {**settings, "l1_weight": 0.0, "l2_weight": 1.0})
    assert set(squared.reconstruction_losses(output, stored(data))) == {"l2"}
    with pytest.raises(ValueError, match="one above 0"):
        get_modality("image", {**settings, "l1_weight": 0.0})


@pytest.mark.parametrize("channels", [0, 5])
def test_channels_out_of_range_are_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 4 channels, got {channels}"):
        ImageShape(8, 8, channels, 4)


@pytest.mark.parametrize("patch", [0, 9])
def test_patches_larger_than_the_image_are_refused(patch: int) -> None:
    with pytest.raises(ValueError, match=f"8 x 12 images, got {patch}"):
        ImageShape(8, 12, 3, patch)


def test_an_unknown_kind_of_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="one of sincos, zero, got 'learned'"):
        get_modality("image", settings_of(patch_positions="learned")).embedder(16)


def test_a_missing_setting_is_refused_by_name() -> None:
    settings = settings_of()
    del settings["channels"]
    with pytest.raises(ValueError, match="channels"):
        get_modality("image", settings)


def test_an_unknown_modality_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"the modalities image, .*, got 'sound'"):
        get_modality("sound", {})
