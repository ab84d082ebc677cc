"""A log of lines with pictures beside it. A run appends to it, a resumed run first cuts it back, and a new run first sets it aside."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError
from ssmspec.files.writing import Kind, refuse_precious, whole_file
from ssmspec.report.documents.monitoring import Timing
from ssmspec.statistics import Measurement

TextOf = Callable[[Measurement, Timing | None, Mapping[str, str] | None], str]


class LineFile:
    """A text file that grows by complete lines, each of which belongs to a step.

    Args:
        path: the file. Its folder is created if missing. Pictures go to the folder `<stem>.pictures` beside it.
        kind: the kind of file, so that no other kind is ever cut.
        text_of: turns a measurement into complete lines. step_of: the step of a line, or None if it is not a line of this log.
        header: the first line, or empty.

    Raises:
        SsmspecError: a file of another kind has that name, or the folder cannot be created.
    """

    def __init__(self, path: Path, kind: Kind, *, text_of: TextOf, step_of: Callable[[str], int | None], header: str = "") -> None:
        self.path, self._kind, self._header = path, kind, header
        self._text_of, self._step_of = text_of, step_of
        refuse_precious(path, kind)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole, _ = self._lines()
        except OSError as error:
            raise SsmspecError(f"cannot write {path}: {error.strerror or error}") from error
        if whole and not self._ours(whole[0]):
            raise SsmspecError(f"{path} exists and is not a log of this kind; name another file")

    def begin(self, step: int) -> None:
        """Prepare the file for a run whose first step is `step`.

        Lines of that step and of later steps are dropped, because these steps will be measured again. A line that a killed writer left
        unfinished is dropped, too. If nothing would remain, or if `step` is 0 or 1, this is a different run: the old file and its
        pictures are then renamed to `<stem>.1<suffix>`, or to the next free number.
        """
        whole, torn = self._lines()
        steps = [self._step_of(line) for line in whole]
        kept = [line for line, found in zip(whole, steps, strict=True) if found is not None and 1 < step > found]
        if any(found is not None for found in steps) and not kept:
            self._set_aside()
        elif torn or len(kept) < len(whole) - bool(self._header):
            with whole_file(self.path, self._kind) as file:
                file.write("".join(f"{line}\n" for line in [self._header, *kept] if line).encode())

    def write(self, measurement: Measurement, timing: Timing | None, pictures: Mapping[str, str] | None) -> None:
        """Append a measurement completely or not at all.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        text = self._text_of(measurement, timing, pictures)
        with self.path.open("ab", buffering=0) as file:
            start = file.tell()
            data = (f"{self._header}\n{text}" if self._header and not start else text).encode()
            try:
                if file.write(data) != len(data):
                    raise OSError(f"no room for {len(data)} bytes in {self.path}")
            except OSError:
                file.truncate(start)
                raise

    def picture(self, step: int, layer: str, part: str, image: npt.NDArray[np.uint8]) -> str:
        """Write the picture of a layer as a PNG. Returns its path relative to the folder of the log."""
        from ssmspec.report.figures.live_layer import write_png

        folder = self._pictures(self.path.stem)
        folder.mkdir(exist_ok=True)
        return write_png(image, folder / f"{part}.{step:08d}.png").relative_to(self.path.parent).as_posix()

    def close(self) -> None:
        """Do nothing: no file stays open between two measurements."""

    def _ours(self, line: str) -> bool:
        return line == self._header if self._header else self._step_of(line) is not None

    def _lines(self) -> tuple[list[str], str]:
        """The complete lines, and whatever follows the last of them."""
        if not self.path.exists():
            return [], ""
        *whole, torn = self.path.read_bytes().decode(errors="replace").split("\n")
        return whole, torn

    def _pictures(self, stem: str) -> Path:
        return self.path.with_name(f"{stem}.pictures")

    def _set_aside(self) -> None:
        stem, suffix, number = self.path.stem, self.path.suffix, 1
        while self.path.with_name(f"{stem}.{number}{suffix}").exists() or self._pictures(f"{stem}.{number}").exists():
            number += 1
        self.path.rename(self.path.with_name(f"{stem}.{number}{suffix}"))
        if self._pictures(stem).exists():
            self._pictures(stem).rename(self._pictures(f"{stem}.{number}"))
