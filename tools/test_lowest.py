"""Run a part of the tests with the lowest versions that pyproject.toml admits.

`python tools/test_lowest.py VENV [tests ...]`. The environment TORCH names another torch than the
lowest one (its build for CPUs, where there is one); PIP_OPTIONS goes to pip. Where that torch
cannot be had, one line says so and nothing is tested; anything else that fails is a failure.
"""

import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOOLS = ("beartype", "hypothesis", "pytest", "pytest-timeout", "scipy")
TESTS = ("tests/pipelines", "tests/models", "tests/test_runs.py")


def lowest(requirements: list[str]) -> dict[str, str]:
    """The version after ">=" for each requirement that has one."""
    found = (re.fullmatch(r"([\w-]+)>=([\w.]+)", requirement) for requirement in requirements)
    return {match[1]: match[2] for match in found if match}


def main(home: Path, tests: list[str]) -> int:
    """Build the environment, install the versions, run the tests; pytest's exit status."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = lowest(project["dependencies"])
    tools = lowest(project["optional-dependencies"]["dev"])
    versions |= {name: tools[name] for name in TOOLS}
    build = "+cpu" if sys.platform == "linux" else ""
    torch = f"torch=={os.environ.get('TORCH') or versions.pop('torch') + build}"
    versions.pop("torch", None)
    venv.create(home, with_pip=True, clear=True)
    python = str(home / "bin" / "python")
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    pip += os.environ.get("PIP_OPTIONS", "").split()
    probe = [*pip, "--dry-run", "--no-deps", "--only-binary", ":all:", torch]
    if subprocess.run(probe, capture_output=True).returncode:
        print(f"skipped: {torch} is not on this index; set TORCH or PIP_OPTIONS")
        return 0
    pins = [torch, *(f"{name}=={version}" for name, version in versions.items())]
    print("testing with", *pins, flush=True)
    subprocess.run([*pip, *pins], check=True)
    subprocess.run([*pip, "--no-deps", "-e", str(ROOT)], check=True)
    return subprocess.run([python, "-m", "pytest", "-q", *tests], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:] or list(TESTS)))
