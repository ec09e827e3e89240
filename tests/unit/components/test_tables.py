"""Tables of items: each format, each way of giving it, and content that readers get wrong."""

from __future__ import annotations

import gzip
import io
import json
import math
from datetime import date

import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv
from pyarrow import dataset, parquet
from pyarrow import json as arrow_json

import runwide
from runwide.cli import cli, inputs
from runwide.errors import InputError, NoItems, ObjectNotFound
from runwide.store import open_store
from runwide.tables import csv_rows
from runwide.tables.sources import fits, items_from

AWKWARD = "a\u2028b\u2029c\x0bd\x0ce\x1cf\x85g"  # where str.splitlines would split
LONG = "x" * 200_000  # longer than the module csv takes by itself

VALUES = {
    "rows": [{"name": AWKWARD, "days": 7}, {"name": "", "days": None}],
    "texts": ["a", AWKWARD, "", "7", "[1]"],
    "numbers": [1, -2, 2.5, 10**30],
    "lists": [[1, 2], [], [None]],
    "nulls": [None, None],
    "one null": [None],
    "one text": ["a"],
    "one number": [7],
    "bools": [True, False],
    "mixed": [1, "a", [1, 2], {"a": 1}, None, True],
    "lists first": [[1, 2], 3],
    "text first": ["a", None, [1, 2], 1],
    "long": [{"name": LONG, "n": 1}, {"name": "x", "n": 2}],
    "wide line": [{"name": "x" * 100_000}] * 3,
}
CSV_ROWS = [
    {"name": AWKWARD, "days": 7, "share": 0.5, "open": True},
    {"name": 'a "quoted", text\nof two lines', "days": 14, "share": 1e300, "open": False},
    {"name": LONG, "days": -1, "share": 2.0, "open": True},
]


def lines(values, *, end="\n", last=True, bom=False) -> bytes:
    text = end.join(json.dumps(value, ensure_ascii=False) for value in values) + (end if last else "")
    return text.encode("utf-8-sig" if bom else "utf-8")


def compressed(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1)


def as_csv(rows, **options) -> bytes:
    return pd.DataFrame(rows).to_csv(index=False, **options).encode()


def as_parquet(rows) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


# The ways to give a format: the file's name, items_format=, the artifact's metadata, and the first bytes.
WAYS = {
    "name": lambda form: (f"rows.{form}", {}),
    "items_format": lambda form: ("artifact", {"form": form}),
    "items_format over name": lambda form: (
        "rows.csv" if form != "csv" else "rows.json",
        {"form": form, "metadata": {"format": "parquet"}},
    ),
    "metadata": lambda form: ("artifact", {"metadata": {"format": form}}),
    "metadata over name": lambda form: (
        "rows.csv" if form != "csv" else "rows.json",
        {"metadata": {"format": form.upper()}},
    ),
    "media type": lambda form: ("artifact", {"metadata": {"mimetype": MEDIA[form]}}),
    "content": lambda form: ("artifact", {}),
}
MEDIA = {
    "jsonl": "application/x-ndjson",
    "json": "application/json; charset=utf-8",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}


@pytest.fixture
def read(tmp_path):
    def items(data: bytes, name: str, **how):
        (tmp_path / name).write_bytes(data)
        return items_from(str(tmp_path / name), **how)

    return items


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_values_of_json_keep_their_types_however_the_format_is_given(read, form, way, zipped):
    name, how = WAYS[way](form)
    for wanted in VALUES.values():
        data = lines(wanted) if form == "jsonl" else json.dumps(wanted).encode()
        found = read(
            compressed(data) if zipped else data, name + (".gz" if zipped and "." in name else ""), **how
        )
        assert found == wanted
        assert list(map(type, found)) == list(map(type, wanted))


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_are_dicts_however_the_format_is_given(read, form, way, zipped):
    data = as_csv(CSV_ROWS) if form == "csv" else as_parquet(CSV_ROWS)
    name, how = WAYS[way](form)
    found = read(
        gzip.compress(data) if zipped else data, name + (".gz" if zipped and "." in name else ""), **how
    )
    assert found == CSV_ROWS
    assert [list(map(type, row.values())) for row in found] == [[str, int, float, bool]] * 3


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
@pytest.mark.parametrize("bom", [True, False], ids=["bom", "none"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows"])
def test_lines_end_at_line_feeds_and_nowhere_else(read, name, bom, last, end):
    wanted = VALUES["rows"] + [AWKWARD]
    assert read(lines(wanted, end=end, last=last, bom=bom), name) == wanted


def test_json_lines_are_what_pandas_and_pyarrow_read(read):
    rows = [{"name": AWKWARD, "n": 1.5}, {"name": "b\r", "n": 2.5}]
    data = lines(rows)
    found = read(data, "rows")
    assert found == pd.read_json(io.BytesIO(data), lines=True).to_dict("records")
    assert found == arrow_json.read_json(io.BytesIO(data)).to_pylist()


def test_numbers_that_are_none_are_read_as_python_does(read):
    found = read(b"NaN\n-Infinity\n1\n", "rows.jsonl")
    assert math.isnan(found[0])
    assert found[1:] == [-math.inf, 1]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows"])
def test_text_that_is_not_utf_8_is_an_error_with_its_line(read, name):
    with pytest.raises(InputError, match="line 3 is not UTF-8") as caught:
        read(b'"a"\n"b"\n"\xff"\n', name)
    assert name in str(caught.value)


# What may be more than one format is not guessed.
@pytest.mark.parametrize(
    "text",
    [
        "1\n2\nabc\n",
        '"n"\n1\n2\n',
        "true\nx\n",
        "[1, 2]\n[3,\n",
        "a\tb\n1\t2\n",
        "a;b\n1;2\n",
        "\x00\x01\n",
        "{\n}x",
        "gs://b/1.txt\ngs://b/2.txt\n",
        "2024-01-01\n2024-01-02\n",
        "007\n008\n",
        "country\nfr\nde\n",
        "n\n1\n2\n",
    ],
    ids=range(13),
)
def test_what_may_be_more_than_one_format_is_an_error_that_names_the_option(read, text):
    with pytest.raises(InputError, match="items_format"):
        read(text.encode(), "artifact")


@pytest.mark.parametrize(
    ("name", "how"),
    [("x.csv", {}), ("x", {"form": "csv"}), ("x", {"metadata": {"format": "csv"}})],
    ids=["name", "items_format", "metadata"],
)
def test_one_column_of_csv_is_read_if_the_format_is_given(read, name, how):
    assert read(b"url\ngs://b/1\n", name, **how) == [{"url": "gs://b/1"}]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("country,n\nfr,1\n", [{"country": "fr", "n": 1}]),
        ('"name"\n"alice"\n', ["name", "alice"]),
        ('"a","b"\n"x","y"\n', [{"a": "x", "b": "y"}]),
        ("[\n1,\n2\n]\n", [1, 2]),
        ("\n\n[1, 2]\n", [1, 2]),
        ("\n[1]\n\n[2]\n", [[1], [2]]),
    ],
    ids=range(6),
)
def test_a_format_is_guessed_from_the_first_lines(read, text, items):
    assert read(text.encode(), "artifact") == items


def test_metadata_that_name_no_format_are_an_error_and_others_say_nothing(read):
    with pytest.raises(InputError, match=r"metadata have format='avro'.*items_format"):
        read(b"1\n", "artifact", metadata={"format": "avro"})
    silent = {"rows": 7, "mimetype": "text/plain", "content_type": ""}
    assert read(b"1\n2\n", "artifact", metadata=silent) == [1, 2]


# pandas as it is without a type for missing values: with its own types of whole numbers that may be missing.
def pandas_rows(text: str) -> list[dict]:
    frame = pd.read_csv(io.StringIO(text), low_memory=False)
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


FIELDS = st.sampled_from(
    [" 7", "+7", "-0", "007", "1.", ".5", "1e5", " 1.5 ", "1e400", "1_000", "inf", "-Infinity", "NAN", "nan", "tRuE",
     "False", " true", "", "NA", "N/A", "None", "null", "<NA>", "-9223372036854775808", "1", "0", "2.5", "x", "1e",
     "1 000", "0x10", " NA", "--1", "\t7", "1E+05", "+", ".", "e5", "\u0661", "\u00a07", "-1.#IND", "true"]
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=4))
@example([("1", "x"), ("", "NA")])
@example([("True", "1"), ("", "")])
@example([("18446744073709551616", "9223372036854775808")])
def test_types_of_columns_are_those_of_pandas(fields):
    text = "a,b\n" + "".join(f"{a},{b}\n" for a, b in fields)
    found, wanted = csv_rows.rows([csv_rows.Part(text, "x")], {}), pandas_rows(text)
    assert [list(row) for row in found] == [list(row) for row in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        for name in ours:
            # Whole numbers stay ints where some are missing: pandas has floats.
            assert ours[name] == theirs[name] or (str(ours[name]), str(theirs[name])) == ("nan", "nan")
            assert isinstance(ours[name], type(theirs[name])) or type(ours[name]) is int


def test_a_number_of_more_digits_than_python_reads_is_a_text(read):
    many = "9" * 5000
    assert read(f"a,b\n{many},1{'0' * 400}\n".encode(), "rows.csv") == [{"a": many, "b": 10**400}]


def test_json_may_be_as_deep_as_the_setting_says(read, monkeypatch):
    deep = "[" * 300 + "]" * 300
    with pytest.raises(InputError, match="RUNWIDE_MAX_JSON_DEPTH"):
        read(f"{deep}\n{deep}\n".encode(), "rows.jsonl")
    monkeypatch.setenv("RUNWIDE_MAX_JSON_DEPTH", "400")
    assert len(read(f"{deep}\n{deep}\n".encode(), "rows")) == 2


def test_csv_is_what_pandas_and_pyarrow_read(read):
    data = as_csv(CSV_ROWS)
    found = read(data, "rows.csv")
    assert found == pandas_rows(data.decode())
    options = arrow_csv.ParseOptions(newlines_in_values=True)
    assert found == arrow_csv.read_csv(io.BytesIO(data), parse_options=options).to_pylist()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize(
    "lines",
    [
        ["a,b", "1,x", "", "2,y"],
        ["a,b", "1,x", "   ", "2,y"],
        ["", "a,b", "1,x"],
        [",a,", "1,2,3"],
        ["a", "1", "", "2"],
        ["a,b", '1,"x""y"', '2,"z, w"'],
        ["a,b", '"1","x"', '"","y"'],
        ["id", "1", "2", "  "],
        ["id", "1", "\t ", "2"],
        ["", "  ", "id", "1"],
        ["id", "1", '"  "', "x"],
        ["id", '"a', '  "', "x"],
    ],
    ids=range(12),
)
def test_lines_and_headers_of_csv_are_those_of_pandas(read, lines, end):
    text = end.join(lines)
    found = read(text.encode("utf-8-sig"), "rows.csv")
    assert found == pandas_rows(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n\n3\n", "line 4 has 1 values, and the header has 2"),
        ("a,b\n1,2,3\n", "line 2 has 3 values, and the header has 2"),
        ('a,b\n"x\ny",2\n3,4,5\n', "line 4 has 3 values"),
        ("a,b,a\n1,2,3\n", "line 1 names columns twice: 'a'"),
        ("Unnamed: 1,\n1,2\n", "line 1 names columns twice: 'Unnamed: 1'"),
        ('a,b\n1,2\n"x\n', "line 3: unexpected end of data"),
        ('a,b\n1,"x"y\n', "line 2: ',' expected"),
    ],
    ids=range(7),
)
def test_a_row_that_is_no_row_is_an_error_with_its_line(read, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read(text.encode(), "rows.csv")
    assert "rows.csv" in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n \n", "a,b\n", "a,b"], ids=range(4))
def test_csv_without_rows_has_no_items(read, text):
    with pytest.raises(NoItems):
        read(text.encode(), "rows.csv")


def test_types_of_columns_can_be_given(read):
    text = b"zip,n,share,open,name\n01234,7,1,TRUE,NA\n,,,,\n"
    types = {"zip": "str", "n": int, "share": "float", "open": "bool", "name": "str"}
    assert read(text, "rows.csv", types=types) == [
        {"zip": "01234", "n": 7, "share": 1.0, "open": True, "name": "NA"},
        dict.fromkeys(types),
    ]
    assert read(text, "rows.csv", types='{"zip": "str"}')[0]["zip"] == "01234"


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({"zap": "str"}, "columns that are not there: 'zap'"),
        ({"n": "int"}, "line 3, column 'n': 'x' is not of type int"),
        ({"n": "bool"}, "line 2, column 'n': '7' is not of type bool"),
        ({"n": "complex"}, "has 'complex' for the column 'n'; give one of str"),
        ("[", "--items-types is not JSON"),
        ("[]", "items_types is a list, not a dict"),
    ],
    ids=range(6),
)
def test_types_that_do_not_fit_are_an_error(read, types, message):
    with pytest.raises(InputError, match=message):
        read(b"n,m\n7,1\nx,2\n", "rows.csv", types=types)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_types_are_for_csv_alone(read, name):
    data = as_parquet([{"a": 1}]) if name.endswith("parquet") else b"[1]"
    with pytest.raises(InputError, match="items_types= is for CSV"):
        read(data, name, types={"a": "str"})


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-9], lambda data: data + b"more", lambda data: data[:20] + b"\xff" * 20 + data[40:]],
    ids=["cut", "longer", "changed"],
)
def test_gzip_that_is_damaged_is_an_error(read, damage):
    data = gzip.compress(lines(list(range(1000))))
    with pytest.raises(InputError, match="cannot be read as gzip"):
        read(damage(data), "rows.jsonl.gz")


def test_gzip_of_several_parts_is_one_file_and_plain_text_is_not_unpacked(read):
    assert read(gzip.compress(b"1\n") + gzip.compress(b"2\n"), "rows.jsonl.gz") == [1, 2]
    assert read(b"1\n2\n", "rows.jsonl.gz") == [1, 2]  # a bucket may decompress what it sends


def test_gzip_is_not_decompressed_beyond_the_limit(read, monkeypatch):
    monkeypatch.setenv("RUNWIDE_MAX_TABLE_BYTES", "2000000")
    with pytest.raises(InputError, match=r"more than 2000000 bytes.*RUNWIDE_MAX_TABLE_BYTES"):
        read(gzip.compress(b" " * 20_000_000), "rows.jsonl.gz")


def partitioned(folder) -> list[dict]:
    """A folder of Parquet as pyarrow, Spark and BigQuery write it."""
    rows = [
        {"name": "a", "n": 1, "day": "2024-01-01", "part": 1},
        {"name": "b", "n": None, "day": "2024-01-01", "part": 2},
        {"name": "c d/e", "n": 3, "day": "2024-01-02", "part": 1},
        {"name": None, "n": 4, "day": None, "part": 1},
    ]
    dataset.write_dataset(
        pa.Table.from_pylist(rows),
        folder,
        format="parquet",
        partitioning=["day", "part"],
        partitioning_flavor="hive",
    )
    for name in ("_SUCCESS", "_metadata", "_temporary/0/x.parquet", "day=2024-01-01/.part-0.parquet.crc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return rows


@pytest.mark.parametrize("how", ["", "/"])
@pytest.mark.parametrize("name", ["rows.parquet", "table"])
def test_a_folder_of_parquet_is_read_as_pyarrow_reads_it(tmp_path, name, how):
    partitioned(tmp_path / name)
    found = items_from(f"{tmp_path}/{name}{how}")
    assert found == parquet.read_table(tmp_path / name).to_pylist()
    assert [row["name"] for row in found] == ["a", "b", "c d/e", None]
    assert [row["day"] for row in found] == ["2024-01-01", "2024-01-01", "2024-01-02", None]


@pytest.mark.parametrize("name", ["rows.parquet", "table"])
def test_a_folder_of_parquet_in_a_bucket_is_read_too(tmp_path, name):
    rows = partitioned(tmp_path / name)
    with open_store(f"memory://folder-{name}") as store:
        for path in (tmp_path / name).rglob("*"):
            if path.is_file():
                store.create(path.relative_to(tmp_path).as_posix(), path.read_bytes())
    for uri in (f"memory://folder-{name}/{name}", f"memory://folder-{name}/{name}/"):
        assert items_from(uri) == rows
        assert items_from(uri, form="parquet") == rows
        assert items_from(uri, metadata={"format": "parquet"}) == rows
    with pytest.raises(ObjectNotFound):
        items_from(f"memory://folder-{name}/{name[:3]}")


def test_columns_that_only_some_files_have_are_none_in_the_others(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t/0.parquet").write_bytes(as_parquet([{"a": 1}]))
    (tmp_path / "t/1").write_bytes(as_parquet([{"a": 2.5, "b": "x"}]))
    assert items_from(f"{tmp_path}/t") == [{"a": 1.0, "b": None}, {"a": 2.5, "b": "x"}]
    (tmp_path / "t/2.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"cannot be read as parquet.*t/2\.parquet"):
        items_from(f"{tmp_path}/t")


OWN = {"others": [1, 2], "another type": [7, 7], "missing": ["7", None]}


@pytest.mark.parametrize("own", OWN)
def test_a_folder_of_parquet_replaces_no_column_of_its_files(tmp_path, own):
    (tmp_path / "t/day=7").mkdir(parents=True)
    (tmp_path / "t/day=7/x.parquet").write_bytes(as_parquet([{"day": day, "n": 1} for day in OWN[own]]))
    with pytest.raises(InputError, match=r"the column 'day' has other values.*t/day=7/x\.parquet"):
        items_from(f"{tmp_path}/t")


def test_a_column_of_a_file_may_say_what_its_folder_says(tmp_path):
    (tmp_path / "t/day=mon").mkdir(parents=True)
    (tmp_path / "t/day=mon/x.parquet").write_bytes(as_parquet([{"day": "mon", "n": 1}]))
    assert items_from(f"{tmp_path}/t") == [{"day": "mon", "n": 1}]


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.duration("s")], ids=str)
def test_times_beyond_those_of_python_are_an_error(tmp_path, kind, folder):
    path = tmp_path / ("t/x.parquet" if folder else "x.parquet")
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pa.table({"a": pa.array([10**15], kind)}), path)
    with pytest.raises(InputError, match=r"cannot be read as parquet"):
        items_from(str(path.parent if folder else path))


def test_a_folder_of_other_files_is_an_error_that_says_what_to_give(tmp_path):
    (tmp_path / "t").mkdir()
    with pytest.raises(NoItems, match="has no files"):
        items_from(f"{tmp_path}/t")
    (tmp_path / "t/0.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match=r"only folders of Parquet.*items_format="):
        items_from(f"{tmp_path}/t")
    with pytest.raises(InputError, match=r"only folders of Parquet"):
        items_from("/proc")  # a folder at the top, without a further slash


@pytest.mark.parametrize("mark", [";", "\t", "|"], ids=["semicolon", "tab", "bar"])
def test_other_separators_than_commas_are_one_column_with_a_warning(read, caplog, mark):
    text = f"a{mark}b\n1{mark}2\n".encode()
    assert read(text, "rows.csv") == [{f"a{mark}b": f"1{mark}2"}]
    (record,) = caplog.records
    assert "table.separated" in record.getMessage()
    caplog.clear()
    assert read(text, "rows.csv", form="csv") == [{f"a{mark}b": f"1{mark}2"}]
    assert read(f"a{mark}b,c\n1,2\n".encode(), "rows.csv") == [{f"a{mark}b": 1, "c": 2}]
    assert not caplog.records


def test_a_bracket_in_a_name_is_written_in_brackets(tmp_path):
    (tmp_path / "d [1].csv").write_text("a,b\n1,2\n")
    with pytest.raises(NoItems, match=r"write \[\[\]"):
        items_from(f"{tmp_path}/d [1].csv")
    assert items_from(f"{tmp_path}/d [[]1].csv", form="csv") == [{"a": 1, "b": 2}]


def test_two_columns_of_one_name_are_an_error(read):
    out = io.BytesIO()
    parquet.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), out)
    with pytest.raises(InputError, match="columns have the same name: 'a'"):
        read(out.getvalue(), "rows.parquet")


def test_values_of_parquet_keep_their_types(read):
    rows = [
        {"day": date(2024, 1, 1), "raw": b"x", "many": [1, None], "deep": {"a": 1}},
        dict.fromkeys(("day", "raw", "many", "deep")),
    ]
    assert read(as_parquet(rows), "rows") == rows


def test_rows_of_all_files_of_a_pattern_are_items_where_a_format_is_given(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.csv").write_text("zip,n\n1,7\n")
    (tmp_path / "a/2.csv").write_text("n,zip\n8,A1\n")
    assert items_from(f"{tmp_path}/*/*.csv", form="csv") == [{"zip": "1", "n": 7}, {"zip": "A1", "n": 8}]
    assert items_from(f"{tmp_path}/a", form="files") == [f"{tmp_path}/a/1.csv", f"{tmp_path}/a/2.csv"]
    (tmp_path / "a/3.csv").write_text("m\n8\n")
    with pytest.raises(InputError, match=r"columns differ.*'m', not 'zip', 'n'.*a/3\.csv"):
        items_from(f"{tmp_path}/a/*.csv", form="csv")
    with pytest.raises(InputError, match="the items are the names of files"):
        items_from(f"{tmp_path}/a/*.csv", types={"n": "int"})


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/*.csv", ["0.csv", "day/1.csv", "day/deep/er/2.csv"]),
        ("day/**", ["day/1.csv", "day/deep/er/2.csv", "day/x.txt"]),
        ("**", ["0.csv", "day/1.csv", "day/deep/er/2.csv", "day/x.txt"]),
        ("**/deep/**/*.csv", ["day/deep/er/2.csv"]),
        ("day/**/1.csv", ["day/1.csv"]),
        ("*/*.csv", ["day/1.csv"]),
        ("*.csv", ["0.csv"]),
        ("day*", []),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("store", ["folder", "memory"])
def test_two_stars_descend_any_number_of_folders_and_one_none(tmp_path, store, pattern, found):
    root = str(tmp_path) if store == "folder" else f"memory://stars-{tmp_path.name}"
    with open_store(root) as opened:
        for name in ("0.csv", "day/1.csv", "day/deep/er/2.csv", "day/x.txt"):
            opened.create(name, name.encode())
    if not found:
        with pytest.raises(NoItems):
            items_from(f"{root}/{pattern}")
        return
    assert items_from(f"{root}/{pattern}") == [f"{root}/{name}" for name in found]


def test_many_stars_take_no_longer_than_few():
    name, pattern = ["a"] * 60, [*["**", "a"] * 25, "b"]
    assert not fits(name, pattern)


@pytest.mark.parametrize(
    ("name", "how"), [("rows.jsonl", {}), ("rows", {}), ("rows.csv", {"form": "jsonl"})], ids=range(3)
)
def test_a_file_of_a_command_line_is_read_in_the_same_way(tmp_path, name, how):
    (tmp_path / name).write_bytes(lines(VALUES["texts"], bom=True))
    assert inputs.items_of_file(tmp_path / name, **how) == VALUES["texts"]


def test_a_file_of_a_command_line_may_be_csv_or_parquet(tmp_path):
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(as_csv(CSV_ROWS)))
    assert inputs.items_of_file(tmp_path / "rows.csv.gz", types='{"days": "str"}')[0]["days"] == "7"
    (tmp_path / "rows.parquet").write_bytes(as_parquet(CSV_ROWS))
    assert inputs.items_of_file(tmp_path / "rows.parquet") == CSV_ROWS
    with pytest.raises(InputError, match="for a pattern or a folder"):
        inputs.items_of_file(tmp_path / "rows.parquet", form="files")


COMMANDS = {
    "--items-from": lambda path, store: [
        "scatter", "--function", "builtins:repr", "--items-from", path, "--store", store, "--shards", "1"
    ],
    "--items-file": lambda path, store: [
        "scatter", "--function", "builtins:repr", "--items-file", path, "--store", store, "--shards", "1"
    ],
    "map": lambda path, store: ["map", "builtins:repr", path, "--workers", "1"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("table", "items"),
    [
        (("rows.jsonl", '\ufeff1\n"a\u2028b"\nnull\n', []), [1, "a\u2028b", None]),
        (("rows.csv", "zip,n\n01,7\n", ["--items-types", '{"zip": "str"}']), [{"zip": "01", "n": 7}]),
        (("rows", '"n"\n1\n', ["--items-format", "csv"]), [{"n": 1}]),
    ],
    ids=["jsonl", "csv", "given"],
)
def test_commands_read_tables_in_the_same_way(tmp_path, command, table, items):
    name, data, words = table
    (tmp_path / name).write_text(data, encoding="utf-8")
    done = CliRunner().invoke(
        cli, [*COMMANDS[command](str(tmp_path / name), str(tmp_path / "store")), *words]
    )
    assert done.exception is None, done.exception
    if command == "map":
        found = [json.loads(line) for line in done.stdout.splitlines()]
    else:
        job = done.stdout.strip()
        found = runwide.gather(job, [runwide.shard(job, 0, workers=1)])
    assert found == list(map(repr, items))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_name_the_error_of_a_table(tmp_path, command):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3\n")
    done = CliRunner().invoke(cli, COMMANDS[command](str(tmp_path / "rows.csv"), str(tmp_path / "store")))
    assert isinstance(done.exception, InputError)
    assert "line 3 has 1 values" in str(done.exception)
    assert str(tmp_path / "rows.csv") in str(done.exception)


def test_words_about_tables_are_refused_where_there_is_none(tmp_path):
    words = [
        "scatter",
        "--function",
        "builtins:abs",
        "--items-json",
        "[1]",
        "--store",
        str(tmp_path),
        "--shards",
        "1",
    ]
    done = CliRunner().invoke(cli, [*words, "--items-format", "csv"])
    assert isinstance(done.exception, InputError)
    assert "are for tables" in str(done.exception)


def test_a_table_can_be_submitted(tmp_path):
    (tmp_path / "rows").write_text('"n"\n1\n2\n')
    words = [
        "submit",
        "builtins:repr",
        str(tmp_path / "rows"),
        "--components",
        "2",
        "--engine",
        "subprocess",
        "--dry-run",
    ]
    words += ["--store", str(tmp_path / "store")]
    done = CliRunner().invoke(cli, words)
    assert "items_format" in str(done.exception)
    done = CliRunner().invoke(cli, [*words, "--items-format", "csv", "--items-types", '{"n": "int"}'])
    assert done.exception is None, done.exception
    assert "items        2, up to 1 in each component" in done.stdout
