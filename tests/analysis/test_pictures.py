"""Trajectories, interpolation, nearest images: what is computed, and what the pictures hold."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from openunite.analysis.interpolation import interpolate_latents
from openunite.analysis.neighbors import Memorization, Nearest, search
from openunite.analysis.trajectory import follow
from openunite.drawing.figures import tile
from openunite.flow.solvers import solve
from openunite.sampling import Sampling

TARGET = torch.full((6, 1, 4), 0.75)


def decode(latents: Tensor) -> Tensor:
    """(B, 1, 4) -> (B, 1, 2, 2)."""
    return latents.unflatten(2, (2, 2)).clamp(0.0, 1.0)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_trajectory_towards_a_known_target() -> None:
    def perfect(z: Tensor, t: Tensor) -> Tensor:
        return TARGET

    noise = rand(6, 1, 4)
    times, states = [0.0], [noise]

    def keep(_: int, t: float, z: Tensor) -> None:
        times.append(t)
        states.append(z)

    solve(perfect, noise, Sampling("euler", 40, 1.0), callback=keep)
    found = follow(times, states, perfect, decode)
    assert found.states.shape == found.predictions.shape == (41, 6, 1, 2, 2)
    assert (found.predictions[:-1] == 0.75).all()
    left = (found.states - 0.75).abs().flatten(1).mean(1)
    assert all(a >= b for a, b in pairwise(left.tolist()))
    assert torch.allclose(left[20], left[0] / 2, atol=1e-3)  # z_t is halfway at t = 1/2


def test_halfway_is_counted_on_predictions() -> None:
    states = [torch.full((2, 1, 4), value) for value in (0.0, 0.1, 0.2, 1.0)]
    found = follow([0.0, 0.3, 0.6, 1.0], states, lambda z, t: 3.0 * z, decode)
    assert found.distances.tolist() == pytest.approx([1.0, 0.7, 0.4, 0.0])
    assert found.numbers()["prediction halfway to the sample at t"] == 0.6
    assert torch.equal(found.predictions[-1], found.states[-1])


def test_the_animation_has_a_frame_per_step_and_lingers() -> None:
    states = [rand(7, 1, 4, seed=i) for i in range(4)]
    found = follow([0.0, 0.4, 0.8, 1.0], states, lambda z, t: z, decode)
    frames, durations = found.animation()
    assert len(frames) == len(durations) == 4
    assert durations[-1] > 5 * durations[0]
    assert len({frame.size for frame in frames}) == 1
    assert found.figure().axes


def test_interpolation_ends_at_the_images_and_goes_in_equal_steps_where_decoding_is_linear() -> (
    None
):
    first, second = rand(3, 1, 4), rand(3, 1, 4, seed=1)
    found = interpolate_latents(first, second, decode, points=5)
    assert torch.allclose(found.latent[:, 0], decode(first))
    assert torch.allclose(found.latent[:, -1], decode(second))
    assert torch.allclose(found.latent, found.pixel, atol=1e-6)
    assert found.numbers()["worst pair"] == pytest.approx(1.0, abs=1e-4)
    jump = interpolate_latents(first, second, lambda z: decode((z > 0.5).float()), points=5)
    assert jump.numbers()["worst pair"] > 1.5
    assert found.figure().axes


def test_search_is_the_same_in_blocks_and_by_numpy() -> None:
    queries, training = rand(9, 1, 3, 3), rand(40, 1, 3, 3, seed=1)
    found = search(queries, training.split(7))
    a, b = queries.flatten(1).numpy(), training.flatten(1).numpy()
    distances = np.sqrt(((a[:, None] - b[None]) ** 2).mean(2))
    order = np.argsort(distances, axis=1)[:, :2]
    assert found.indices.tolist() == order.tolist()
    assert found.distances.numpy() == pytest.approx(
        np.take_along_axis(distances, order, 1), abs=1e-4
    )


def test_copies_are_found_and_new_images_are_not() -> None:
    training, held_out = rand(60, 1, 4, 4), rand(30, 1, 4, 4, seed=1)
    copied = torch.cat([training[:10] + 0.001, rand(10, 1, 4, 4, seed=2)])
    found = search(torch.cat([copied, held_out]), [training])
    result = Memorization(
        Nearest(found.distances[:20], found.indices[:20]),
        Nearest(found.distances[20:], found.indices[20:]),
        60,
        torch.stack([copied[:5], training[:5]]),
    )
    assert found.indices[:10, 0].tolist() == list(range(10))
    numbers = result.numbers()
    assert numbers["samples copied (nearest < 1/3 of second)"] == 0.5
    assert numbers["held-out copied, by the same rule"] == 0.0
    assert 0.5 <= numbers["samples below the held-out 5 % quantile"] <= 0.7
    assert result.figure().axes


@pytest.mark.parametrize(("channels", "clear"), [(1, 1.0), (2, 0.5), (3, 1.0), (4, 0.5)])
def test_tiles_of_any_number_of_channels(channels: int, clear: float) -> None:
    """White images; fully transparent ones show the gray below."""
    images = torch.ones(2, 3, channels, 4, 5)
    if channels in (2, 4):
        images[:, :, -1] = 0.0
    pixels = tile(images, scale=2)
    assert pixels.shape == (2 * 8 + 2, 3 * 10 + 2 * 2, 3)
    assert pixels[0, 0].tolist() == [round(clear * 255)] * 3
