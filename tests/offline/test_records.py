"""Files as rows: every format, every compression, and one-sentence errors."""

import gzip
import json
import lzma
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from server.errors import BadInput
from server.offline.records import columns_of, open_records

ROWS = [
    {"id": "1", "review": 'two\nlines, "quoted"'},
    {"id": "2", "review": "Café"},
    {"id": "3", "review": ""},
]
CSV = 'id,review\r\n1,"two\nlines, ""quoted"""\r\n2,Café\r\n3,\r\n'


def delimited_by(delimiter: str) -> str:
    return re.sub(r",(?! \")", delimiter, CSV)


def read(path: Path) -> list[Any]:
    with open_records(path) as (records, position):
        rows = list(records)
        assert position() > 0
    return rows


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", CSV.encode()),
        ("bom.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("a.csv.xz", lzma.compress(CSV.encode())),
        ("A.CSV.GZ", gzip.compress(CSV.encode(), mtime=0)),
        ("semicolons.csv", delimited_by(";").encode()),
        ("label-studios-tsv.csv", delimited_by("\t").encode()),
        ("excel.csv", delimited_by("\t").encode("utf-16")),
        ("a.tsv", delimited_by("\t").encode()),
        ("a.json", json.dumps(ROWS, indent=1).encode()),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
        ("a.jsonl", "\n".join([*map(json.dumps, ROWS), ""]).encode()),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert read(tmp_path / name) == ROWS


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ROWS


def test_the_columns_of_a_label_studio_task_are_in_data() -> None:
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
        ("a.csv.xz", b"junk", "damaged or truncated"),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-9], "damaged or truncated"),
        ("a.json", b'{"review": "x"}', "expected a JSON list"),
        ("a.json", b'[{"review": "x"}', "not JSON"),
        ("a.json", b"", "not JSON"),
        (
            "a.json",
            b'[{"review": "x"} {}]',
            "expected a comma or the end of the list after row 1, found '{'",
        ),
        ("a.json", b'[{"review": "x"},]', "not JSON .*row 2"),
        ("a.json", b"[1] 2", "expected nothing after the list"),
        ("a.json", b"[" * 100_000, "row 1 is nested too deeply"),
        ("a.json", b'[{"review": "' + b"x" * 2**25, "a row is longer than 16 MB"),
        ("a.json", b"[" + b"9" * 5000 + b"]", "4300"),
        ("a.jsonl", b"{}\n" + b"[" * 100_000, "line 2 .*nested too deeply"),
        ("a.csv", b"a\n" + b"x" * 2**25, "a row is longer than 16 MB"),
        ("a.csv", b'a\n"' + b"x\n" * 2**24, "a row is longer than 16 MB"),
        ("a.csv.gz", gzip.compress(b"a\nb\n" * 999, mtime=0)[:20] + b"\xff" * 99, "damaged or truncated"),
        ("a.jsonl", b'{"a": 1}\nnope\n', "line 2 is not JSON"),
        ("a.parquet", b"junk", "a.parquet"),
    ],
)
def test_an_error_names_the_file_and_the_problem(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=message) as error:
        read(tmp_path / name)
    assert name in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read(tmp_path / "none.csv")


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [1],
        ["x"],
        [1.5, -2, None, True],
        [{"a": ["x" * 100_000]}, {"b": "é"}] * 3,
        [123456789] * 20_000,
        ['"\\'] * 9,
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_json_items_may_cross_the_end_of_a_block(tmp_path: Path, rows: list[Any], indent: int | None) -> None:
    path = tmp_path / "a.json"
    for space in range(3):
        path.write_text(" " * space + json.dumps(rows, indent=indent), "utf-8")
        assert read(path) == rows


def test_decompressed_bytes_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.xz"
    path.write_bytes(lzma.compress(b"a\n" + b"x" * 9 + b"\n"))
    with open_records(path) as (rows, _):
        assert rows.bytes_read == 0
        assert next(rows) == {"a": "x" * 9}
        assert rows.bytes_read == 12


def test_damaged_parquet_and_parquet_with_a_too_long_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": ["x" * 2**25]}), path, compression="zstd")
    with pytest.raises(BadInput, match="a row is longer than 16 MB"):
        read(path)
    pq.write_table(pa.table({"a": ["x"]}), path)
    path.write_bytes(path.read_bytes()[:-8] + b"\xff\xff\xff\x7fPAR1")
    with pytest.raises(BadInput, match="not Parquet, or damaged"):
        read(path)
