"""Execute notebooks in their short form, each in an empty folder.

    python tools/run_notebooks.py notebooks/*.ipynb

Prints the seconds of each, and ends with status 1 and the error of the first cell that fails.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def main(paths: list[str]) -> int:
    os.environ["OPENUNITE_SHORT"] = "1"
    for path in paths:
        start = time.perf_counter()
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}})
            try:
                client.execute()
            except CellExecutionError as error:
                print(f"{path}: {error}", file=sys.stderr)
                return 1
        print(f"{Path(path).name}: {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
