"""What the training benchmark steps on: images that cost nothing, and a model that stays."""

from dataclasses import asdict, replace
from unittest.mock import patch

import torch
from benchmarks.cases import RandomImages, our_step, small

from openunite.batch import CLASS


def test_a_batch_is_a_view_of_images_drawn_before() -> None:
    config = replace(small(), batch_size=4)
    data = RandomImages(config)
    batches = [data.batch([i, *range(3)]) for i in range(len(data))]
    assert {tuple(batch.data.shape) for batch in batches} == {(4, 1, 28, 28)}
    assert {tuple(batch.conditions[CLASS].values.shape) for batch in batches} == {(4,)}
    kept = data.images.untyped_storage().data_ptr()
    assert {batch.data.untyped_storage().data_ptr() for batch in batches} == {kept}
    assert not torch.equal(batches[0].data, batches[4].data)


def test_a_timed_step_draws_no_images() -> None:
    run = our_step(replace(small(), batch_size=4))
    run()
    with patch("torch.randint", side_effect=AssertionError("images were drawn")):
        run()


def test_the_small_model_is_pinned() -> None:
    """docs/PERFORMANCE.md and docs/LOG.md have its figures: a change of it begins them anew."""
    config = small()
    size = {"width": 128, "depth": 4, "num_registers": 16, "latent_channels": 24}
    size |= {"decoder_width": 128, "decoder_depth": 2, "decoder_mlp_width": 256}
    assert size.items() <= asdict(config.model).items()
    assert (config.objective.flow_draws, config.objective.draws_per_pass) == (3, 1)
