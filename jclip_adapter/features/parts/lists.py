"""Lists of photos: a .txt with a path per line, or a .csv or .parquet with the columns path and, if any, label."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterable, Iterator

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.problems import one_line
from jclip_adapter.data.parts import arrow

from .places import open_file

LISTS = (".txt", ".csv", ".parquet")
_TABLE_ROWS = 8192  # read at once


def listed(path: str, suffix: str) -> Iterator[tuple[str, str]]:
    """Pairs of path and label of a list, read as they are asked for; labels are empty where there is none.

    Raises:
        DataError: the list is damaged, or a path is missing.
    """
    if suffix == ".txt":
        yield from ((name, "") for name in _lines(path))
        return
    try:
        for frame in _frames(path, suffix):
            if "path" not in frame:
                raise DataError(f"{path} has no column path.", f"Its columns are {', '.join(map(str, frame))}.")
            labels = frame["label"] if "label" in frame else itertools.repeat("")
            for name, label in zip(map(_text, frame["path"]), map(_text, labels), strict=False):
                if not name:
                    raise DataError(f"{path} has a row without a path.", "Remove it.")
                yield name, label
    except DataError:
        raise
    except (ValueError, OSError, Warning) as error:  # of pandas and pyarrow, for what is neither CSV nor Parquet
        raise DataError(f"{path} cannot be read as {suffix} ({one_line(str(error))}).", "Check the file.") from error


def _lines(path: str) -> Iterator[str]:
    with open_file(path) as lines:
        for line in lines:
            name = line.decode("utf-8-sig", "surrogateescape").rstrip("\r\n")
            if "\0" in name:
                raise DataError(f"{path} is not in UTF-8: it has NUL bytes.", "Save it as UTF-8.")
            if name.strip():
                yield name


def _text(value: object) -> str:
    """A path or label of a table; empty for none.

    Raises:
        DataError: it is neither a text nor a number.
    """
    if value is None or value != value:  # noqa: PLR0124  (not a number)
        return ""
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, float) and value.is_integer():  # whole numbers beside missing ones
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    raise DataError(f"a path or label is {value!r:.60}.", "Give texts or whole numbers.")


def _frames(path: str, suffix: str) -> Iterator[dict[str, Iterable[object]]]:
    with open_file(path) as handle:
        if suffix == ".csv":
            import pandas as pd

            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # of rows that are longer than the first line
                for frame in pd.read_csv(
                    handle,
                    dtype=str,
                    keep_default_na=False,
                    index_col=False,
                    skipinitialspace=True,
                    chunksize=_TABLE_ROWS,
                ):
                    yield {str(name).strip(): frame[name].tolist() for name in frame.columns}
            return
        arrow()
        from pyarrow.parquet import ParquetFile

        table = ParquetFile(handle)
        columns = [name for name in ("path", "label") if name in table.schema_arrow.names]
        for batch in table.iter_batches(_TABLE_ROWS, columns=columns):
            yield {name: batch.column(name).to_pylist() for name in columns}
