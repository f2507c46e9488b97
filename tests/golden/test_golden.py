"""The stored results, computed again: a refactor that changes a number fails here."""

from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from tests.golden.make import CASES, FOLDER, inputs, outputs
from torch import Tensor


@pytest.fixture(params=CASES)
def golden(request: pytest.FixtureRequest) -> tuple[str, dict[str, Tensor], dict[str, Tensor]]:
    stored = load_file(FOLDER / f"{request.param}.safetensors")
    given = {name.removeprefix("in."): x for name, x in stored.items() if name.startswith("in.")}
    expected = {name.removeprefix("out."): x for name, x in stored.items() if name[:4] == "out."}
    return request.param, given, expected


def test_inputs_come_from_the_same_generator(
    golden: tuple[str, dict[str, Tensor], dict[str, Tensor]],
) -> None:
    case, given, _ = golden
    torch.testing.assert_close(inputs(CASES[case]), given, rtol=0.0, atol=1e-6)


def test_outputs_losses_gradients_and_samples(
    golden: tuple[str, dict[str, Tensor], dict[str, Tensor]],
) -> None:
    """Within 1e-5: relative to the norm for gradients, absolute or relative for the rest."""
    case, given, expected = golden
    computed = outputs(CASES[case], given)
    assert computed.keys() == expected.keys()
    for name, target in expected.items():
        if name.startswith("grad."):
            error = float((computed[name] - target).norm() / target.norm())
            assert error <= 1e-5, f"{name}: relative error {error:.2e}, allowed 1e-05"
        else:
            label = partial("{}: {}".format, name)
            torch.testing.assert_close(computed[name], target, rtol=1e-5, atol=1e-5, msg=label)


def test_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.safetensors")) < 300_000
