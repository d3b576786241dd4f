"""What `--json` prints: one JSON document on standard output."""

import json
import sys
import tomllib
from typing import Any

__all__ = ["print_json", "print_template"]


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def print_template(text: str, *, as_json: bool) -> int:
    """Print a file to start from; as JSON its text under ``template`` and what it says under ``values``."""
    if as_json:
        print_json({"template": text, "values": tomllib.loads(text)})
    else:
        sys.stdout.write(text)
    return 0
