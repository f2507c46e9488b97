"""Packages of extras that a command needs at its end are asked for at its beginning."""

from importlib import import_module


def require(extra: str, *modules: str, purpose: str) -> None:
    """ImportError with the command that installs the extra, unless all can be imported."""
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            package = module.partition(".")[0]
            raise ImportError(
                f"{purpose} needs {package}: pip install 'openunite[{extra}]'"
            ) from error
