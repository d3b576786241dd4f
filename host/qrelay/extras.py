"""Where to get what an extra of the package brings."""

__all__ = ["how_to_get"]


def how_to_get(extra: str) -> str:
    """Words on the installation of an extra, for the end of an error message."""
    return f"install the extra {extra!r}: pip install -e '.[{extra}]' in a checkout of qrelay"
