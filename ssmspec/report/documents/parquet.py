"""The rows of a CSV of analyses as a Parquet file (pyarrow, extra `parquet`)."""

import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

from ssmspec.errors import needed, printable
from ssmspec.report.documents.analyze import CSV_COLUMNS

GROUP = 50_000  # rows that are held before they are written
INTEGERS, NUMBERS = ("copies", "modes"), ("median", "p5", "p95")
CHUNK = 1 << 20  # bytes copied at a time


class ParquetRows:
    """Rows with the columns `CSV_COLUMNS`, in a temporary file. Text is as in the CSV, without the apostrophes that spreadsheets need.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """

    def __init__(self) -> None:
        pyarrow: Any = needed("pyarrow", "--parquet", "parquet")
        parquet: Any = needed("pyarrow.parquet", "--parquet", "parquet")
        kinds = {name: pyarrow.int64() for name in INTEGERS} | {name: pyarrow.float64() for name in NUMBERS}
        self._schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in CSV_COLUMNS])
        self._table: Any = pyarrow.Table
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        self._writer: Any = parquet.ParquetWriter(self._file, self._schema)
        self._rows: list[Sequence[object]] = []

    def add(self, rows: Sequence[Sequence[object]]) -> None:
        """Add rows."""
        self._rows += rows
        if len(self._rows) >= GROUP:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(CSV_COLUMNS)
        data = {
            name: [printable(v) if isinstance(v, str) else v for v in column] for name, column in zip(CSV_COLUMNS, columns, strict=True)
        }
        self._writer.write_table(self._table.from_pydict(data, schema=self._schema))
        self._rows = []

    def content(self) -> Iterator[bytes]:
        """The finished file, in pieces."""
        self._flush()
        self._writer.close()
        self._file.seek(0)
        yield from iter(lambda: self._file.read(CHUNK), b"")

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()
