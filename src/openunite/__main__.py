"""`python -m openunite`, the same as the command `openunite`."""

from openunite.cli import main

if __name__ == "__main__":
    main()
