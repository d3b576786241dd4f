"""The build id: 64 bits by which a station tells which bitstream it holds.

A bitstream cannot contain its own hash, so the id is a hash of all that the bitstream follows from. Tools and seeds
decide it bit for bit, and a build keeps one bitstream, so one id stands for one file. The id goes into the identity
block and, as a comment, into the head of the file; the FPGA skips comments.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from qrelay.bitstream_file import BUILD_ID_COMMENT

__all__ = ["build_id", "mark_config", "stable_names"]

_SOURCE_LINE = re.compile(r"^\s*attribute \\src .*\n", re.MULTILINE)
_OBJECT_IN_NAME = re.compile(r"(?<=[A-Za-z]_)\d{12,}\b")
"""luna-usb tells endpoints of one class apart by where Python keeps them."""
_UNKNOWN_VERSION = "from "


def build_id(files: Mapping[str, str], recipe: Iterable[str], tools: Mapping[str, str]) -> int:
    """Id of a build, never 0.

    Parameters
    ----------
    files : texts of the design by name, elaborated with build id 0; where a line of code stands does not matter.
    recipe : what else decides the bitstream, such as commands and seeds.
    tools : versions, as `tool_versions` gives them. With a tool of unknown version nothing tells one build from
        another, so each gets an id of its own.
    """
    digest = hashlib.sha256()
    for name, text in sorted(files.items()):
        digest.update(f"{name}\0{_SOURCE_LINE.sub('', text)}\0".encode())
    for part in (*recipe, *(f"{tool} {version}" for tool, version in sorted(tools.items()))):
        digest.update(f"{part}\0".encode())
    # What this package does to netlists between the tools.
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    if any(version.startswith(_UNKNOWN_VERSION) for version in tools.values()):
        digest.update(secrets.token_bytes(32))
    return int.from_bytes(digest.digest()[:8], "little") or 1


def stable_names(text: str) -> str:
    """A design whose names do not differ from one elaboration to the next: objects are numbered as they come."""
    numbers: dict[str, int] = {}
    return _OBJECT_IN_NAME.sub(lambda found: str(numbers.setdefault(found[0], len(numbers))), text)


def mark_config(config: Path, build: int) -> None:
    """Add the id to the text of a placed design, from where it gets into the head of the bitstream."""
    first, rest = config.read_text().split("\n", 1)
    if not first.startswith(".device "):
        raise ValueError(f"{config.name} begins with {first[:40]!r}; it should name the device")
    config.write_text(f"{first}\n.comment {BUILD_ID_COMMENT}{build:016x}\n{rest}")
