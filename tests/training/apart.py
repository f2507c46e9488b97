"""Scripts that run apart from pytest, whose shape checker and settings they do not want."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """Of such a script: the code of this checkout, one thread."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def run_apart(script: str, *arguments: str) -> Any:
    """What a script of this folder prints as its last line, in JSON; it has to succeed."""
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(script)), *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])
