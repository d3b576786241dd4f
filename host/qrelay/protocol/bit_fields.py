"""Named bit fields of a word, first field in the lowest bits: records, and entries and indices of tables."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["BitFields", "Field"]


@dataclass(frozen=True)
class Field:
    """A named bit field and what it means."""

    name: str
    width: int
    doc: str


@dataclass(frozen=True)
class BitFields:
    """Fields of one word, from bit 0 upwards; `name` says in messages what the word is."""

    name: str
    fields: tuple[Field, ...]

    @property
    def width(self) -> int:
        """Bits of all fields."""
        return sum(field.width for field in self.fields)

    def placed(self) -> list[tuple[int, Field]]:
        """Each field with its lowest bit."""
        ends = 0
        places = []
        for field in self.fields:
            places.append((ends, field))
            ends += field.width
        return places

    def offset(self, name: str) -> int:
        """Bit position of field `name`. Raises KeyError for an unknown field."""
        for low, field in self.placed():
            if field.name == name:
                return low
        raise KeyError(name)

    def pack(self, values: Mapping[str, int]) -> int:
        """One word as an integer. Raises ValueError naming a field that is missing or does not fit."""
        word = 0
        for low, field in self.placed():
            value = values.get(field.name, -1)
            if not 0 <= value < 1 << field.width:
                raise ValueError(f"{self.name}: {field.name} {value} does not fit {field.width} bits")
            word |= value << low
        return word

    def unpack(self, word: int) -> dict[str, int]:
        """Fields of one word by name."""
        return {field.name: word >> low & ((1 << field.width) - 1) for low, field in self.placed()}
