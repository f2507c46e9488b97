"""Packages that add to openunite, installed for a test and driven through the command line."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

# One process for several commands: importing torch takes longer than most of them.
_DRIVER = """
import io, json, runpy, sys
from contextlib import redirect_stderr, redirect_stdout
from openunite.cli import main
results = []
for arguments in json.load(sys.stdin):
    out, err, status = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            if arguments[0].endswith(".py"):
                runpy.run_path(arguments[0], run_name="__main__")
            else:
                main(arguments)
        except SystemExit as stop:
            status = stop.code or 0
    results.append([status, out.getvalue(), err.getvalue()])
json.dump(results, sys.stdout)
"""


@dataclass(frozen=True)
class Result:
    """What a command left: its exit status, and what it printed."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Environment:
    """A folder of installed packages, and a working directory for commands."""

    site: Path
    work: Path

    @classmethod
    def make(cls, folder: Path) -> "Environment":
        """An empty one."""
        made = cls(folder / "site", folder / "work")
        made.site.mkdir()
        made.work.mkdir()
        return made

    def install(self, project: Path) -> None:
        """Put a project there as pip does, without its build backend: modules and metadata."""
        about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
        for module in project.glob("*.py"):
            shutil.copy(module, self.site)
        info = self.site / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
        info.mkdir()
        name, version = about["name"], about["version"]
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = []
        for group, entries in about["entry-points"].items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    def uninstall(self) -> None:
        """Remove every package."""
        shutil.rmtree(self.site)
        self.site.mkdir()

    def run(self, *commands: str) -> list[Result]:
        """What `openunite COMMAND` or a script "NAME.py" does, all in one process of their own.

        AssertionError if a script fails.
        """
        paths = [str(self.site), *(path for path in sys.path if path)]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "HOME": str(self.work),
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", _DRIVER],
            input=json.dumps([line.split() for line in commands]),
            cwd=self.work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        return [Result(*found) for found in json.loads(done.stdout)]
