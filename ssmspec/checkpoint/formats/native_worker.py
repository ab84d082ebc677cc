"""The process in which libraries of native code read files: a damaged one can make these abort, which then ends this process only.

A program of its own, which imports nothing of the package. Each line of its input is a request in JSON; each answer is a line of JSON,
which says how many bytes follow it. Sources: google/tensorstore, driver/zarr, driver/zarr3, kvstore/ocdbt; h5py, docs/high.
"""

import json
import os
import sys
from typing import Any, BinaryIO

MOST_TEXT = 1 << 16  # bytes of the description of an array
MOST_ARRAYS = 100_000
MOST_DEPTH = 200
CONTEXT = {"cache_pool": {"total_bytes_limit": 0}, "file_io_concurrency": {"limit": 4}, "data_copy_concurrency": {"limit": 1}}
ENDINGS = ("/.zarray", "/zarr.json")


def descriptions(base: str) -> tuple[dict[str, Any], bytes]:
    """The description of every array of an OCDBT database, by its key. `base`: its folder, with a slash at the end."""
    import tensorstore as ts

    store = ts.KvStore.open({"driver": "ocdbt", "base": {"driver": "file", "path": base}}, context=ts.Context(CONTEXT)).result()
    keys = [key.decode() for key in store.list().result() if key.decode().endswith(ENDINGS)]
    if len(keys) > MOST_ARRAYS:
        raise ValueError(f"{len(keys)} arrays, expected at most {MOST_ARRAYS}")
    waiting = [(key, store.read(key)) for key in keys]
    found = {key: bytes(read.result().value) for key, read in waiting}
    long = next((key for key, text in found.items() if len(text) > MOST_TEXT), None)
    if long is not None:
        raise ValueError(f"{long[:100]} has {len(found[long])} bytes, expected at most {MOST_TEXT}")
    return {key: text.decode() for key, text in found.items()}, b""


def array(
    base: str, ocdbt: bool, name: str, driver: str, shape: list[int], dtype: str, rows: list[int] | None, whole: bool
) -> tuple[dict[str, Any], bytes]:
    """Rows of one array, in C order.

    Args:
        rows: the first and the one after the last; None of an array without axes. whole: every chunk must be there.
    """
    import tensorstore as ts

    files = {"driver": "file", "path": base if ocdbt else f"{base}{name}/"}
    store = {"driver": "ocdbt", "base": files, "path": f"{name}/"} if ocdbt else files
    spec = {"driver": driver, "kvstore": store, "fill_missing_data_reads": not whole}
    found = ts.open(spec, read=True, open=True, context=ts.Context(CONTEXT)).result()
    if list(found.shape) != shape or found.dtype.name != dtype:
        raise ValueError(f"it has shape {found.shape} and dtype {found.dtype.name}, its description said {shape} and {dtype}")
    picked = found if rows is None else found[rows[0] : rows[1]]
    return {}, picked.read(order="C").result().tobytes()


def datasets(path: str) -> tuple[dict[str, Any], bytes]:
    """Every dataset of an HDF5 file: its names from the root on, shape, dtype, bytes in the file, and why it is not read, if so.

    Only hard links are followed: others may lead to other files.
    """
    import h5py

    entries: list[dict[str, Any]] = []
    skipped: list[str] = []
    with h5py.File(path, "r") as file:
        waiting: list[tuple[Any, tuple[str, ...]]] = [(file, ())]
        seen = {h5py.h5o.get_info(file.id).addr}
        while waiting:
            group, names = waiting.pop()
            for key in group:
                place = (*names, key)
                if len(place) > MOST_DEPTH or len(entries) + len(skipped) > MOST_ARRAYS:
                    raise ValueError(f"more than {MOST_DEPTH} levels of groups or {MOST_ARRAYS} datasets")
                if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                    skipped.append("/".join(place))
                    continue
                item = group[key]
                if isinstance(item, h5py.Dataset):
                    entries.append({"path": place, **_described(item)})
                elif isinstance(item, h5py.Group) and (address := h5py.h5o.get_info(item.id).addr) not in seen:
                    seen.add(address)
                    waiting.append((item, place))
    return {"datasets": entries, "links": skipped}, b""


def _described(item: Any) -> dict[str, Any]:
    import numpy as np

    kind = item.dtype
    told = item.attrs.get("dtype") if kind == np.dtype("V2") else None
    name = "bfloat16" if told in ("bfloat16", b"bfloat16") else kind.name
    reason = ""
    if item.is_virtual or item.external:
        reason = "its values are in other files"
    elif item.shape is None:
        reason = "it is empty"
    elif item.chunks is not None and item.id.get_num_chunks() < _chunks(item.shape, item.chunks):
        reason = "chunks of it are missing"
    elif item.chunks is None and item.id.get_storage_size() < item.size * kind.itemsize:
        reason = "its values were never written"
    return {"shape": list(item.shape or ()), "dtype": name, "stored": item.id.get_storage_size(), "reason": reason}


def _chunks(shape: tuple[int, ...], chunks: tuple[int, ...]) -> int:
    count = 1
    for size, chunk in zip(shape, chunks, strict=True):
        count *= -(-size // chunk)
    return count


def dataset(path: str, names: list[str], shape: list[int], dtype: str, rows: list[int] | None) -> tuple[dict[str, Any], bytes]:
    """Rows of one dataset, in C order and little-endian."""
    import h5py
    import numpy as np

    with h5py.File(path, "r") as file:
        found = file["/".join(names)]
        if list(found.shape) != shape or (found.dtype.name != dtype and found.dtype != np.dtype("V2")):
            raise ValueError(f"it has shape {found.shape} and dtype {found.dtype}, at first it had {shape} and {dtype}")
        values = np.ascontiguousarray(found[()] if rows is None else found[rows[0] : rows[1]])
        return {}, values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


REQUESTS = {function.__name__: function for function in (descriptions, array, datasets, dataset)}


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until there are no more."""
    for line in requests:
        request = json.loads(line)
        try:
            answer, data = REQUESTS[request.pop("do")](**request)
            header: dict[str, Any] = {"answer": answer, "bytes": len(data)}
        except ImportError as error:
            header, data = {"missing": error.name or str(error)}, b""
        except Exception as error:  # whatever a library raises about a file is told, and the next request is answered
            header, data = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]}, b""
        answers.write(json.dumps(header).encode() + b"\n")
        answers.write(data)
        answers.flush()


def main() -> None:
    """Serves the streams of this process; what libraries print goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # no code is loaded because a file asks for a filter
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
