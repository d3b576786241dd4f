import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrelay.protocol.records import RECORDS, RecordKind
from qrelay.record_arrays import pack_records, unpack_records


@pytest.mark.parametrize("kind", RecordKind)
@given(words=st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_arrays_hold_the_same_fields_as_the_protocol(kind, words):
    array = unpack_records(kind, np.array(words, np.uint64))
    assert [dict(zip(array.dtype.names, map(int, row), strict=True)) for row in array] == [
        RECORDS[kind].unpack(word) for word in words
    ]
    assert pack_records(array, kind).tolist() == words
