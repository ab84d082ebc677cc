"""What the results of all public functions have in common: layers by name, index and glob, and how they show themselves."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from html import escape
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar, overload

from ssmspec.errors import needed, printable
from ssmspec.report.documents.document import Document, to_json

MOST_LINES = 40  # lines of a repr; longer ones are cut, which they say
CELLS = "text-align: left; white-space: nowrap"


class Entry(Protocol):
    """One layer of a result."""

    @property
    def name(self) -> str: ...
    def summary(self) -> str: ...


Item = TypeVar("Item", bound=Entry)


class Collection(Generic[Item]):
    """Layers in model order: `result[3]`, `result["layers.3"]`, `result["layers.*"]`, `len(result)`, `for layer in result`."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = tuple(items)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the layers."""
        return tuple(item.name for item in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __contains__(self, name: object) -> bool:
        return name in self.names or name in self._items

    @overload
    def __getitem__(self, key: int) -> Item: ...
    @overload
    def __getitem__(self, key: slice) -> Self: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...

    def __getitem__(self, key: int | slice | str) -> Any:
        """A layer by its index here or its exact name; a smaller result by a slice, a glob, or the name of a block with several layers."""
        if isinstance(key, int):
            return self._items[key]
        if isinstance(key, slice):
            return self._some(self._items[key])
        for item in self._items:
            if item.name == key:
                return item
        found = [item for item in self._items if fnmatchcase(item.name, key) or item.name.startswith(f"{key}:")]
        if not found:
            shown = ", ".join(self.names[:8]) + (", ..." if len(self) > 8 else "")
            raise KeyError(f"no layer is called {key}; the {len(self)} layers are {shown}")
        return self._some(found)

    def _some(self, items: Sequence[Item]) -> Self:
        raise NotImplementedError

    def to_dict(self) -> Document:
        """The JSON document, which needs no other package; its schema is named in it."""
        raise NotImplementedError

    def to_json(self, path: Path | str | None = None) -> str:
        """The JSON document as text, which is also written to a file if there is a path.

        Raises:
            SsmspecError: the file cannot be written.
        """
        text = to_json(self.to_dict())
        if path is not None:
            from ssmspec.files.writing import Kind, whole_file

            with whole_file(Path(path), Kind.document) as file:
                file.write((text + "\n").encode())
        return text

    def _rows(self) -> tuple[Sequence[str], list[list[object]]]:
        """Headings and rows of the long table: one row per layer and quantity."""
        raise NotImplementedError

    def to_dataframe(self, kind: str = "wide") -> Any:
        """A table for pandas (`pip install 'ssmspec[pandas]'`).

        Args:
            kind: "wide" has one row per layer and one column per quantity, its median; "long" one row per layer and quantity, with ranges,
                units and reasons.
        Raises:
            SsmspecError: pandas is not installed. ValueError: an unknown kind.
        """
        pandas = needed("pandas", "to_dataframe()")
        if kind not in ("wide", "long"):
            raise ValueError(f"kind={kind!r} is unknown; choose 'wide' or 'long'")
        headings, rows = self._rows()
        return pandas.DataFrame(rows, columns=list(headings)) if kind == "long" else pandas.DataFrame(self._wide())

    def _wide(self) -> list[dict[str, object]]:
        raise NotImplementedError

    def _title(self) -> str:
        raise NotImplementedError

    def _remarks(self) -> Sequence[str]:
        """Lines below the layers of a repr."""
        return ()

    def __repr__(self) -> str:
        lines = [item.summary() for item in self._items]
        more = [f"... and {len(lines) - MOST_LINES} more layers"] if len(lines) > MOST_LINES else []
        shown = (self._title(), *(f"  {line}" for line in (*lines[:MOST_LINES], *more)), *self._remarks())
        return "\n".join(map(printable, shown))

    def _html_table(self) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        """Headings and cells of the table of a notebook."""
        return ("layer",), ((item.summary(),) for item in self._items)

    def _repr_html_(self) -> str:
        """The table that a notebook shows. Every text in it is escaped."""
        headings, rows = self._html_table()
        return html_table(self._title(), headings, rows, self._remarks())


def html_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], remarks: Sequence[str]) -> str:
    """A table in HTML without scripts, styles of its own or links; all text is escaped."""
    cell: Callable[[str], str] = lambda text: escape(printable(text), quote=True)  # noqa: E731
    head = "".join(f'<th style="{CELLS}">{cell(text)}</th>' for text in headings)
    body = "".join("<tr>" + "".join(f'<td style="{CELLS}">{cell(text)}</td>' for text in row) + "</tr>" for row in rows)
    below = "".join(f"<div>{cell(text)}</div>" for text in remarks)
    return f"<div><strong>{cell(title)}</strong><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}</div>"
