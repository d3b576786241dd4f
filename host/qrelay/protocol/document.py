"""The document of the register map, made from the register map."""

from .bit_fields import BitFields
from .records import RECORDS
from .registers import ADDRESS_BITS, GROUPS, Register
from .windows import AUDIT_CHOICE, WINDOWS

__all__ = ["register_map_markdown"]

_INTRODUCTION = f"""# Register map

Made from `qrelay.protocol`; do not edit. To make it anew, write the result of
`qrelay.protocol.document.register_map_markdown()` to this file.

Addresses count words of 32 bits; there are 2^{ADDRESS_BITS}. A register of more than 32 bits takes consecutive
addresses, low word first. Reading the first word of a wide state register holds the rest for the read of the next word.
`rw` reads back as written, `wo` reads as 0, `ro` is state, a `strobe` acts for one word clock, `w1c` is latched and
cleared by writing 1. Bits above the width are ignored. A request that names an unmapped address, or writes a read-only
one, is refused whole.
"""


def _meaning(register: Register) -> str:
    text = register.doc.replace("|", "\\|")
    if register.maximum is not None:
        text += f"; at most {register.maximum}"
    return text


def _rows(word: BitFields) -> list[str]:
    """Bits, name and meaning of each field, as the end of a table's row."""
    return [f"{low + field.width - 1}:{low} | `{field.name}` | {field.doc} |" for low, field in word.placed()]


def register_map_markdown() -> str:
    """Markdown text that lists every register, window and record."""
    lines = [_INTRODUCTION]
    for group in GROUPS:
        lines += [f"## {group.name}", "", f"{group.doc}.", ""]
        lines += ["| address | register | bits | access | reset | unit | meaning |", "|---|---|---:|---|---:|---|---|"]
        for address, register in group.addressed():
            reset = str(register.reset) if register.access in ("rw", "wo") else ""
            lines.append(
                f"| {address:#06x} | `{register.name}` | {register.width} | {register.access} | {reset} | "
                f"{register.unit} | {_meaning(register)} |"
            )
        lines.append("")
    lines += [
        "## Windows",
        "",
        "| address | window | entries | bits | access | meaning |",
        "|---|---|---:|---:|---|---|",
    ]
    lines += [
        f"| {w.base:#06x} | `{w.name}` | {w.depth} | {w.width} | {w.access} | {w.doc} |"
        for w in sorted(WINDOWS, key=lambda window: window.base)
    ]
    lines += ["", "## Entries and indices of windows", "", "Windows that are not listed hold plain numbers.", ""]
    lines += ["| window | bits | field | meaning |", "|---|---|---|---|"]
    for w in sorted(WINDOWS, key=lambda window: window.base):
        for what, fields in (("index", w.index), ("entry", w.entry)):
            lines += [f"| `{w.name}`, {what} | {row}" for row in _rows(fields)]
    lines += [f"| `audit`, choice of a slot | {row}" for row in _rows(AUDIT_CHOICE)]
    lines += ["", "## Records", "", "64 bits each, little-endian, first field in the lowest bits.", ""]
    lines += ["| kind | record | bits | field | meaning |", "|---:|---|---|---|---|"]
    for kind, record in RECORDS.items():
        lines += [f"| {int(kind)} | {kind.name.lower()} | {row}" for row in _rows(record)]
    return "\n".join(lines) + "\n"
