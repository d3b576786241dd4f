import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest

from qrelay import event_tables
from qrelay.errors import RunFolderError
from qrelay.protocol.records import RECORDS, RecordKind
from qrelay.run_folder import RecordedAnnouncements, RecordedReference, RunFolder, read_announcements
from qrelay.spool import Spool, SpoolReader


def successes(slots):
    return np.array(
        [RECORDS[RecordKind.SUCCESS].pack({"slot": s, "pattern": 5, "outcome": 1 + s % 4, "flags": 0}) for s in slots],
        np.uint64,
    )


def clicks(slots):
    return np.array(
        [RECORDS[RecordKind.CLICK].pack({"slot": s, "fine": 64, "detector": s % 4, "flags": 0}) for s in slots],
        np.uint64,
    )


def read_spool(path):
    """Records by (station, kind), and the damage."""
    records = {}
    with SpoolReader(path) as reader:
        for block in reader:
            records.setdefault((block.station, block.kind), []).extend(block.words.tolist())
        return records, reader.damage


@pytest.fixture
def spool(tmp_path):
    path = tmp_path / "events.spool"
    with Spool(path) as file:
        file.append(3, RecordKind.SUCCESS, successes(range(10)))
        file.append(3, RecordKind.CLICK, clicks(range(5)))
        file.append(3, RecordKind.SUCCESS, successes(range(10, 30)))
    return path


def test_what_goes_in_comes_out(spool):
    records, damage = read_spool(spool)
    assert damage is None
    assert records[3, RecordKind.SUCCESS] == successes(range(30)).tolist()
    assert records[3, RecordKind.CLICK] == clicks(range(5)).tolist()


def test_a_bit_that_turns_over_anywhere_costs_its_own_block_only(spool):
    """Header or records: nothing comes out that did not go in, under whatever station or kind."""
    whole = spool.read_bytes()
    right, _ = read_spool(spool)
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        spool.write_bytes(damaged)
        records, damage = read_spool(spool)
        assert damage is not None
        assert set(records) <= set(right)
        assert sum(map(len, records.values())) in (15, 25, 30)  # 10, 5 and 20 records, less one block
        assert all(set(found) <= set(right[whose]) for whose, found in records.items())


def test_a_cut_file_gives_every_whole_block_and_says_where_it_ends(spool):
    whole = spool.read_bytes()
    third = len(whole) - 16 - 20 * 8
    for size in range(len(whole)):
        spool.write_bytes(whole[:size])
        records, damage = read_spool(spool)
        count = sum(map(len, records.values()))
        assert count == (15 if size >= third else 10 if size >= 96 else 0)
        assert (damage is None) == (size in (0, 96, third))
        if damage:
            begin = third if size > third else 96 if size > 96 else 0
            assert damage.startswith(f"byte {begin}: ")
            assert damage.endswith(f"; {size - begin} of {size} bytes could not be read")


@pytest.mark.parametrize("searched", [4, 7, 1 << 20])
@pytest.mark.parametrize("size", [1, 4, 5, 8, 16])
def test_damage_costs_the_block_it_is_in_and_no_other(spool, monkeypatch, searched, size):
    """Wherever it is, in a header or in the records, and however much of the file is searched at once."""
    monkeypatch.setattr("qrelay.spool._SEARCHED", searched)
    whole = spool.read_bytes()
    middle = range(96, len(whole) - 16 - 20 * 8)
    for place in range(middle.start, middle.stop - size + 1):
        if size == 1 and 100 <= place < 104:
            continue  # station and kind are not in the checksum
        data = bytearray(whole)
        data[place : place + size] = (byte ^ 0xFF for byte in data[place : place + size])
        spool.write_bytes(data)
        records, damage = read_spool(spool)
        assert records == {(3, RecordKind.SUCCESS): successes(range(30)).tolist()}, place
        assert damage.startswith("byte 96: ")
        assert damage.endswith(f"; {len(middle)} of {len(whole)} bytes could not be read")


def test_a_half_block_that_could_not_be_cut_off_hides_nothing_behind_it(spool):
    whole = spool.read_bytes()
    spool.write_bytes(whole[:-20])
    with Spool(spool) as file:
        file.append(3, RecordKind.SUCCESS, successes([77]))
    records, damage = read_spool(spool)
    assert records[3, RecordKind.SUCCESS] == successes([*range(10), 77]).tolist()
    assert damage.startswith(f"byte {len(whole) - 16 - 20 * 8}: SUCCESS block of station 3 ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_reported_in_words():
    with (
        Spool(Path("/dev/full")) as spool,
        pytest.raises(RunFolderError, match=r"cannot write /dev/full: No space left"),
    ):
        spool.append(0, RecordKind.CLICK, clicks([1]))


def test_a_disk_that_fills_up_keeps_what_was_there(tmp_path, monkeypatch):
    import resource

    path = tmp_path / "events.spool"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Spool(path) as spool:
        spool.append(1, RecordKind.CLICK, clicks(range(100)))
        # The kernel refuses to let the file grow beyond this, in the middle of the next block.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(RunFolderError, match="what was recorded before is kept"):
                spool.append(1, RecordKind.CLICK, clicks(range(100)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        spool.append(1, RecordKind.CLICK, clicks([7]))
    records, damage = read_spool(path)
    assert damage is None
    assert len(records[1, RecordKind.CLICK]) == 101


@pytest.fixture
def folder(tmp_path):
    made = RunFolder.create(tmp_path, "test", "x = 1\n")
    made.spool.append(3, RecordKind.SUCCESS, successes([50, 9, 11]))
    made.spool.append(3, RecordKind.CLICK, clicks([10]))
    yield made
    made.close()


def test_tables_hold_the_events_in_order_of_slots(folder):
    import pyarrow.parquet as pq

    before = read_announcements(folder.path)
    folder.write_tables()
    assert not (folder.path / "events.spool").exists()
    table = pq.read_table(folder.path / "events.parquet").to_pydict()
    assert table["slot"] == [9, 10, 11, 50]
    assert table["kind"] == [0, 1, 0, 0]
    assert table["outcome_or_detector"] == [2, 2, 4, 3]
    after = read_announcements(folder.path)
    assert after.slots.tolist() == before.slots.tolist() == [9, 11, 50]
    assert after.outcomes.tolist() == before.outcomes.tolist() == [2, 4, 3]
    assert pq.read_table(folder.path / "frames.parquet").num_rows == 0


@pytest.mark.parametrize("rows", [1, 7, 100, 1 << 20])
def test_tables_of_any_size_are_in_order(tmp_path, monkeypatch, rows):
    """Blocks that reach back behind each other, written and read in groups of `rows`: as if all were sorted at once."""
    import pyarrow.parquet as pq

    monkeypatch.setattr(event_tables, "_ROWS", rows)
    rng = np.random.default_rng(rows)
    made = RunFolder.create(tmp_path, "test", "x = 1\n")
    every = []
    for block in range(60):
        slots = np.sort(rng.choice(60, rng.integers(1, 9), replace=False)) + 20 * block
        kind, make = (RecordKind.SUCCESS, successes) if rng.random() < 0.5 else (RecordKind.CLICK, clicks)
        made.spool.append(3, kind, make(slots.tolist()))
        every += [(slot, int(kind)) for slot in slots.tolist()]
    made.write_tables()
    made.close()
    table = pq.read_table(made.path / "events.parquet").to_pydict()
    assert list(zip(table["slot"], table["kind"], strict=True)) == sorted(every)
    parts = list(RecordedAnnouncements(made.path))
    assert len(parts) > 1 or rows > len(every)
    slots = np.concatenate([part.slots for part in parts]).tolist()
    assert slots == sorted(slot for slot, kind in every if kind == RecordKind.SUCCESS)


def test_a_cut_table_is_named(folder):
    folder.write_tables()
    path = folder.path / "events.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunFolderError, match=r"cannot read .*events.parquet: .*it is missing, cut or damaged"):
        read_announcements(folder.path)


def test_tables_that_cannot_be_written_leave_the_spool(folder):
    (folder.path / "frames.parquet.part").mkdir()
    with pytest.raises(RunFolderError, match=r"the records are kept in events.spool"):
        folder.write_tables()
    assert len(read_spool(folder.path / "events.spool")[0][3, RecordKind.SUCCESS]) == 3


def test_a_damaged_spool_is_told_and_kept(folder):
    """The tables hold what is sound."""
    folder.spool.append(3, RecordKind.SUCCESS, successes([70, 71]))
    path = folder.path / "events.spool"
    data = bytearray(path.read_bytes())
    data[16 + 3 * 8 + 16] ^= 1  # the click
    path.write_bytes(data)
    what = r"spool is damaged: byte 40: CLICK block of station 3 has a wrong checksum; 24 of 96 bytes could not be read"
    told = []
    assert read_announcements(folder.path, told.append).slots.tolist() == [9, 11, 50, 70, 71]
    assert list(RecordedReference(folder.path, told.append)) == []
    assert len(told) == 2
    assert all(re.search(what, line) for line in told)
    with pytest.warns(UserWarning, match=what):
        read_announcements(folder.path)
    with pytest.raises(RunFolderError, match=what + r"; the tables hold what is sound, and the spool is kept$"):
        folder.write_tables()
    assert path.read_bytes() == data
    assert read_announcements(folder.path).slots.tolist() == [9, 11, 50, 70, 71]


def test_secrets_are_for_their_owner_only(folder):
    old = os.umask(0)
    try:
        folder.write_secret("alice.choice-key", b"secret")
    finally:
        os.umask(old)
    path = folder.path / "alice.choice-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == b"secret"


def test_two_runs_in_one_second_get_two_folders(tmp_path):
    folders = [RunFolder.create(tmp_path, "same", "") for _ in range(3)]
    assert len({folder.path for folder in folders}) == 3
    for folder in folders:
        folder.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot make .*choose another output folder"):
        RunFolder.create(tmp_path / "file", "x", "")
