"""Two gloo processes compute what one does: samples, losses, gradients, weights, EMA.

Both ways to share the work: whole weights everywhere, and FSDP2, where each process holds a part.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.training.apart import environment

SCRIPT = Path(__file__).with_name("two_processes.py")
STEPS = 6
Tensors = dict[str, torch.Tensor]


def run(folder: Path, processes: int, sharding: str = "none", stop: int = STEPS) -> list[Tensors]:
    """Train up to step `stop` of 6, or go on from there; what each process ended with.

    A signal to the last process stops all of them.
    """
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        + [f"--nproc_per_node={processes}", str(SCRIPT), str(folder)]
        + [str(8 // processes), sharding, str(stop)],  # twice that many: two micro-batches
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [load_file(folder / f"rank{rank}.safetensors") for rank in range(processes)]


def events(folder: Path, rank: int) -> list[str]:
    """Terms and messages of a process, as they happened."""
    with safe_open(folder / f"rank{rank}.safetensors", "pt") as file:
        return json.loads(file.metadata()["events"])


def losses(folder: Path) -> torch.Tensor:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = ("loss_reconstruction", "loss_flow", "latent_spread", "grad_norm")
    return torch.tensor([[row[name] for name in names] for row in rows])


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensors]:
    """The run on one process."""
    folder = tmp_path_factory.mktemp("one")
    return folder, run(folder, 1)[0]


def assert_equal(folder: Path, ranks: list[Tensors], one: tuple[Path, Tensors]) -> None:
    found, known = losses(folder), losses(one[0])
    torch.testing.assert_close(found[:, :-1], known[:, :-1], rtol=1e-6, atol=1e-6)
    # The norm of the gradients at weights that differ by 1e-6 already: 1.3e-6 was seen.
    torch.testing.assert_close(found[:, -1], known[:, -1], rtol=3e-6, atol=0.0)
    for rank in ranks:
        for name in (n for n in one[1] if n.startswith(("weight.", "ema.", "grad."))):
            if name in rank:  # a resumed run may have passed the step of the gradients
                expected = one[1][name]
                close = 1e-6 * (1.0 + max(expected.abs().flatten().tolist(), default=0.0))
                torch.testing.assert_close(rank[name], expected, rtol=0, atol=close, msg=name)


def assert_near(ranks: list[Tensors], one: Tensors) -> None:
    """Three steps with absolute errors, whose gradient jumps where rounding decides a sign.

    Without such a jump the weights are 3e-7 apart. One jump in the first step moves the loss by
    1.3e-4, the norm of the gradients by 1.4e-3 and a weight by 8e-4: about twice that is allowed.
    """
    scalars = torch.tensor([3e-4, 3e-3])
    for rank in ranks:
        assert ((rank["absolute.rows"] / one["absolute.rows"] - 1.0).abs() < scalars).all()
        for name in (n for n in one if n.startswith("absolute.") and n != "absolute.rows"):
            torch.testing.assert_close(rank[name], one[name], rtol=0, atol=1.5e-3, msg=name)


@pytest.mark.parametrize("sharding", ["none", "full"])
def test_two_processes_equal_one(sharding: str, tmp_path: Path, one: tuple[Path, Tensors]) -> None:
    ranks = run(tmp_path, 2, sharding)
    assert [int(rank["world"]) for rank in ranks] == [2, 2]
    # Scalars, with the word of a signal among them, and moments: nothing else is waited for.
    assert [int(rank["reductions"]) for rank in ranks] == [2 * STEPS, 2 * STEPS]
    # Two micro-batches of three terms. In the last, the decoder's gradients leave before the flow
    # draws are computed, the others after them; nobody waits before the end, nothing goes twice.
    step = ["term"] * 6
    if sharding == "none":
        sizes = [
            sum(one[1][n].numel() for n in one[1] if n.startswith(f"grad.{part}."))
            for part in ("decoder", "encoder")
        ]
        decoder, encoder = (f"message of {size}" for size in sizes)
        step = ["term"] * 4 + [decoder, "term", "term", encoder, "wait", "wait"]
    assert [events(tmp_path, rank) for rank in range(2)] == [step * STEPS] * 2
    assert int(one[1]["world"]) == 1
    together = torch.stack([rank["seen"].view(-1, 4) for rank in ranks], dim=1).flatten()
    assert together.tolist() == one[1]["seen"].tolist()
    assert_equal(tmp_path, ranks, one)
    assert_near(ranks, one[1])
    same = [name for name in ranks[0] if name.startswith(("weight.", "absolute."))]
    assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in same)

    tensors = sum(name.startswith("weight.") for name in one[1])
    held = [int(rank["held"]) for rank in ranks]
    if sharding == "full":
        assert [int(rank["sharded"]) for rank in ranks] == [tensors, tensors]
        assert sum(held) == int(one[1]["held"])
        assert max(held) < 0.55 * sum(held)
    else:
        assert held == [int(one[1]["held"])] * 2


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(
    tmp_path: Path, one: tuple[Path, Tensors]
) -> None:
    """One process, two with shares, two with whole weights, one again: the same run and files."""
    for processes, sharding, stop in ((1, "full", 2), (2, "full", 4), (2, "none", 5)):
        ranks = run(tmp_path, processes, sharding, stop)
        assert [int(rank["steps"]) for rank in ranks] == [stop] * processes
        assert len(losses(tmp_path)) == stop
    assert_equal(tmp_path, run(tmp_path, 1, "none"), one)
    (kept,) = {path.name for path in (one[0] / "checkpoints").iterdir()}
    for file in sorted((one[0] / "checkpoints" / kept).glob("*.safetensors")):
        ours = load_file(tmp_path / "checkpoints" / kept / file.name)
        theirs = load_file(file)
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            torch.testing.assert_close(ours[name], tensor, rtol=1e-6, atol=1e-6, msg=name)
