"""Two gloo processes compute what one does: samples, losses, gradients, weights, EMA."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("two_processes.py")


def run(folder: Path, processes: int, micro_batch_size: int) -> list[dict[str, torch.Tensor]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        + [f"--nproc_per_node={processes}", str(SCRIPT), str(folder), str(micro_batch_size)],
        env=environment,
        check=True,
        capture_output=True,
        timeout=240,
    )
    return [load_file(folder / f"rank{rank}.safetensors") for rank in range(processes)]


def losses(folder: Path) -> list[tuple[float, ...]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(r["loss_reconstruction"], r["loss_flow"], r["latent_spread"]) for r in rows]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    (one,) = run(tmp_path / "one", 1, 16)
    ranks = run(tmp_path / "two", 2, 8)
    assert [int(rank["world"]) for rank in ranks] == [2, 2]
    assert int(one["world"]) == 1

    together = torch.stack([rank["seen"].view(-1, 8) for rank in ranks], dim=1).flatten()
    assert together.tolist() == one["seen"].tolist()

    torch.testing.assert_close(
        torch.tensor(losses(tmp_path / "two")),
        torch.tensor(losses(tmp_path / "one")),
        rtol=0.0,
        atol=1e-6,
    )
    for rank in ranks:
        for name, value in one.items():
            if name not in ("world", "seen"):
                torch.testing.assert_close(rank[name], value, rtol=1e-6, atol=1e-6, msg=name)
    assert all(torch.equal(ranks[0][n], ranks[1][n]) for n in one if n.startswith("weight."))
