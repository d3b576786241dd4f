"""The committed document of the register map."""

from pathlib import Path

from qrelay.protocol.document import register_map_markdown
from qrelay.protocol.registers import GROUPS
from qrelay.protocol.windows import WINDOWS

DOCUMENT = Path(__file__).parents[2] / "gateware" / "REGISTERS.md"


def test_document_is_current():
    assert DOCUMENT.read_text(encoding="utf-8") == register_map_markdown(), (
        "write register_map_markdown() to REGISTERS.md"
    )


def test_document_names_everything():
    text = register_map_markdown()
    for group in GROUPS:
        for address, register in group.addressed():
            assert f"| {address:#06x} | `{register.name}` | {register.width} | {register.access} |" in text
    for window in WINDOWS:
        assert f"| {window.base:#06x} | `{window.name}` |" in text
