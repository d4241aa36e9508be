"""MATLAB files, which SciPy reads. It trusts what they say of themselves, and a damaged one can end the process.

So a file of MATLAB 5 to 7 is walked through first: every element must be of a kind that its place allows, and lie
within the one around it ("MAT-File Format", The MathWorks, chapter 1).
"""

import struct
import zlib
from pathlib import Path
from typing import Any

from dtfsal.engines.errors import UnavailableError
from dtfsal.training.data.stills import DataError

_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_NUMBERS = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 12, 13})
_TEXTS = frozenset({1, 2, 3, 4, 16, 17, 18})
_CELLS, _STRUCTS, _OBJECTS, _CHARACTERS, _SPARSE = 1, 2, 3, 4, 5
_NUMERIC = range(6, 16)
_COMPLEX = 0x800
_HEADER_BYTES = 128
MOST_BYTES = 2**30  # of a variable, once it is decompressed
MOST_DEPTH = 16


def read_matlab(path: Path, **options: Any) -> dict[str, Any]:
    """The variables of a file. The indices of a sparse one are the file's word, which nobody has checked.

    Args:
        path: the file.
        options: of SciPy's `loadmat`.

    Raises:
        DataError: it is missing, damaged or of another format.
        UnavailableError: SciPy is not installed.
    """
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise UnavailableError(f"reading {path} needs SciPy; run `pip install scipy`") from error
    try:
        with path.open("rb") as file:
            _check_file(file.read(MOST_BYTES))
            file.seek(0)
            variables: dict[str, Any] = loadmat(file, **options)
        return variables
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there; restore it from the dataset") from error
    except (MatReadError, zlib.error, struct.error, NotImplementedError, MemoryError, OSError) as error:
        raise _unreadable(path, error) from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: BaseException) -> DataError:
    return DataError(f"{path} cannot be read as a MATLAB file ({error}); restore it from the dataset")


def _check_file(content: bytes) -> None:
    if 0 in content[:4]:  # of MATLAB 4: plain arrays, whose sizes NumPy checks
        return
    order = "<" if content[126:128] == b"IM" else ">"
    for kind, data in _elements(memoryview(content)[_HEADER_BYTES:], order):
        if kind == _COMPRESSED:
            inside = memoryview(zlib.decompressobj().decompress(data, MOST_BYTES))
            ((kind, data), *more) = _elements(inside, order)
            if more:
                raise ValueError("a compressed part holds more than a variable")
        if kind != _MATRIX:
            raise ValueError(f"a variable is of the kind {kind}")
        _check_matrix(data, order, 0)


def _elements(data: memoryview, order: str) -> list[tuple[int, memoryview]]:
    """Kinds and contents of the elements that follow each other."""
    found, at = [], 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start = at + 8
        if kind >> 16:  # up to four bytes lie within the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            if size > 4:
                raise ValueError(f"a small element has {size} bytes")
        if start + size > len(data):
            raise ValueError("it is cut short")
        found.append((kind, data[start : start + size]))
        at = start + size
        if kind != _COMPRESSED:
            at += -at % 8
    return found


def _check_matrix(data: memoryview, order: str, depth: int) -> None:
    if not len(data):  # an empty place in a cell array
        return
    if depth > MOST_DEPTH:
        raise ValueError(f"it is nested more than {MOST_DEPTH} levels deep")
    parts = _elements(data, order)
    kinds = [kind for kind, _ in parts]
    if len(kinds) < 3 or kinds[:2] != [_UINT32, _INT32] or kinds[2] not in _TEXTS or len(parts[0][1]) != 8:
        raise ValueError("a variable has no proper head")
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    holds, numbers = flags & 0xFF, 2 if flags & _COMPLEX else 1
    rest = kinds[3:]
    if holds in _NUMERIC:
        fits = len(rest) == numbers and set(rest) <= _NUMBERS
    elif holds == _SPARSE:
        fits = len(rest) == 2 + numbers and set(rest) <= _NUMBERS
    elif holds == _CHARACTERS:
        fits = len(rest) == 1 and set(rest) <= _TEXTS
    elif holds in (_CELLS, _STRUCTS, _OBJECTS):
        names = {_CELLS: [], _STRUCTS: [_INT32, _INT8], _OBJECTS: [_INT8, _INT32, _INT8]}[holds]
        fits = rest[: len(names)] == names and set(rest[len(names) :]) <= {_MATRIX}
        for _kind, inside in parts[3 + len(names) :] if fits else []:
            _check_matrix(inside, order, depth + 1)
    else:
        fits = False
    if not fits:
        raise ValueError(f"a variable of class {holds} has parts that it cannot have")
