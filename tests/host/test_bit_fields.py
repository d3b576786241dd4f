import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrelay.bit_arrays import pack_fields, unpack_fields
from qrelay.protocol.windows import AUDIT_CHOICE, WINDOWS

WORDS = [word for w in WINDOWS for word in (w.entry, w.index) if word.fields] + [AUDIT_CHOICE]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: "-".join(field.name for field in word.fields))
@given(data=st.data())
def test_arrays_hold_the_same_fields_as_single_words(word, data):
    packed = data.draw(st.lists(st.integers(0, (1 << word.width) - 1), max_size=20))
    fields = unpack_fields(word, np.array(packed, np.uint32))
    for place, value in enumerate(packed):
        assert {name: int(values[place]) for name, values in fields.items()} == word.unpack(value)
        assert word.pack(word.unpack(value)) == value
    assert pack_fields(word, **fields).tolist() == packed


def test_small_integers_are_not_cut_where_they_are_shifted():
    small = {field.name: np.full(3, (1 << field.width) - 1, np.uint8) for field in AUDIT_CHOICE.fields}
    assert pack_fields(AUDIT_CHOICE, **small).tolist() == [255] * 3


@pytest.mark.parametrize("value", [-1, 8])
def test_a_value_that_does_not_fit_is_refused_by_name(value):
    with pytest.raises(ValueError, match=rf"setting {value} does not fit 3 bits"):
        AUDIT_CHOICE.pack({"setting": value, "phase": 0, "drawn": 0})


def test_a_field_that_is_not_there_is_an_error():
    with pytest.raises(KeyError, match="phases"):
        AUDIT_CHOICE.offset("phases")
