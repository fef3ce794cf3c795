"""Files as rows: every format, every compression, and what is wrong with a file in one sentence."""

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from server.errors import BadInput
from server.records import columns_of, open_records

ROWS = [{"id": "1", "review": 'two\nlines, "quoted"'}, {"id": "2", "review": "Café"}, {"id": "3", "review": ""}]
CSV = 'id,review\r\n1,"two\nlines, ""quoted"""\r\n2,Café\r\n3,\r\n'


def read(path: Path) -> list[Any]:
    with open_records(path) as (rows, position):
        taken = list(rows)
        assert position() > 0
    return taken


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", CSV.encode()),
        ("bom.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("a.csv.xz", lzma.compress(CSV.encode())),
        ("A.CSV.GZ", gzip.compress(CSV.encode())),
        ("a.json", json.dumps(ROWS, indent=1).encode()),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode())),
        ("a.jsonl", "\n".join([*map(json.dumps, ROWS), ""]).encode()),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert read(tmp_path / name) == ROWS


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ROWS


def test_the_columns_of_a_label_studio_task_lie_under_data() -> None:
    assert columns_of({"id": 1, "data": {"review": "x"}}) == {"review": "x"}
    assert columns_of({"review": "x", "data": "y"}) == {"review": "x", "data": "y"}
    assert columns_of(7) == {}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "must end in .csv"),
        ("a.parquet.gz", b"", "must end in .csv"),
        ("a.csv", b"a,b\n1,2,3\n", "line 2 has more cells"),
        ("a.csv", b"a\n\xff\n", "UTF-8"),
        ("a.csv.xz", b"junk", "damaged or cut off"),
        ("a.csv.gz", gzip.compress(CSV.encode())[:-9], "damaged or cut off"),
        ("a.json", b'{"review": "x"}', "expected a JSON list"),
        ("a.json", b'[{"review": "x"}', "not JSON"),
        ("a.json", b"", "not JSON"),
        ("a.jsonl", b'{"a": 1}\nnope\n', "line 2 is not JSON"),
        ("a.parquet", b"junk", "a.parquet"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=message) as refusal:
        read(tmp_path / name)
    assert name in str(refusal.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read(tmp_path / "none.csv")
