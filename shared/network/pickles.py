"""Tensors out of the files that `torch.save` writes, which are pickles: programs that could do anything when loaded.

Here nothing is loaded and no code runs. The pickle's instructions are walked one by one, and only those that a dict of
tensors needs are known: texts, numbers, dicts, tuples, and the names in `CALLS` and `KINDS`. Whatever else a file asks
for is refused by its name. A tensor's numbers are read from the zip as a numpy array, within bounds.
"""

import io
import pickletools
import zipfile
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
KINDS = {  # of storages, and how their numbers lie in the file; bfloat16 is the upper half of a float32
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch HalfStorage": "<f2",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}
DICT, TENSOR, PARAMETER = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
)
CALLS = (DICT, TENSOR, PARAMETER)
CONVERT = (
    "convert it where it was made: "
    "safetensors.torch.save_file({name: t.contiguous() for name, t in model.state_dict().items()}, 'model.safetensors')"
)
LARGEST_PICKLE = 32 << 20  # bytes of instructions; ConvNeXt-Base's are 40,000
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING", "BINSTRING")
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Name(NamedTuple):
    """A function or class that a pickle names."""

    name: str


class Storage(NamedTuple):
    """Numbers in the file."""

    kind: str
    entry: str
    count: int


class Tensor(NamedTuple):
    """What a tensor shows of its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Mark(NamedTuple):
    """Where a tuple or the pairs of a dict begin."""


def read_pickled(path: Path) -> tuple[Arrays, dict[str, str]]:
    """The tensors in a file of `torch.save` that holds a dict of them, or has one under "state_dict" (Lightning's).

    Also each one's type, for those of bfloat16 come as float32. Raises ValueError, which says how to convert the file,
    for anything else.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return _tensors(file, path.stat().st_size)
    except FileNotFoundError:
        raise
    except (
        Exception
    ) as error:  # of zipfile, pickletools and numpy, for bytes that are anything at all
        raise ValueError(
            f"{path} cannot be read as tensors alone ({str(error) or type(error).__name__}); {CONVERT}"
        ) from error


def _tensors(file: zipfile.ZipFile, size: int) -> tuple[Arrays, dict[str, str]]:
    entries = {entry.filename: entry for entry in file.infolist()}
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1 or len(entries) != len(file.infolist()):
        raise ValueError("it has no data.pkl, or several")
    top = pickles[0].removesuffix("data.pkl")
    order = f"{top}byteorder"
    if order in entries and _read(file, entries[order], 16) != b"little":
        raise ValueError("its numbers are big-endian")
    found = _walk(_read(file, entries[pickles[0]], min(LARGEST_PICKLE, size)))
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not found:
        raise ValueError("it is no dict of tensors")
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{str(name)[:80]!r} in it is no tensor")
    arrays, left = {}, 2 * size  # tensors may share a storage, but not make much of little
    for name, tensor in found.items():
        left -= prod(tensor.shape) * _width(tensor.storage.kind)
        if left < 0:
            raise ValueError("its tensors are larger than the file")
        arrays[name] = _array(file, entries, top, tensor)
    return arrays, {name: tensor.storage.kind for name, tensor in found.items()}


def _read(file: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    """The bytes of an entry, at most so many; those of `torch.save` are never compressed."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ValueError(f"{entry.filename} in it is compressed")
    if entry.file_size > most:
        raise ValueError(f"{entry.filename} in it is too large")
    return file.read(entry)


def _width(kind: str) -> int:
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize


def _array(file: zipfile.ZipFile, entries: dict, top: str, tensor: Tensor) -> np.ndarray:
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    entry = entries.get(f"{top}data/{storage.entry}")
    if entry is None or entry.file_size != storage.count * _width(storage.kind):
        raise ValueError(f"the numbers {storage.entry[:80]!r} are missing, or not as many as said")
    last = tensor.offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if prod(shape) > storage.count or (prod(shape) and last >= storage.count):
        raise ValueError("a tensor reaches beyond its numbers")
    data = _read(file, entry, entry.file_size)
    halved = storage.kind == "bfloat16"
    numbers = np.frombuffer(data, "<u2" if halved else storage.kind)
    numbers = widened(numbers) if halved else numbers
    if not prod(shape):
        return np.zeros(shape, numbers.dtype)
    steps = [step * numbers.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], shape, steps).copy()


def widened(halves: np.ndarray) -> np.ndarray:
    """The float32 whose upper halves, as numbers uint16, are bfloat16."""
    return (halves.astype("<u4") << 16).view("<f4")


def _walk(data: bytes) -> Any:
    """What a pickle makes, of texts, numbers, dicts, lists, tuples and `Tensor`s."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for operation, argument, _ in pickletools.genops(io.BytesIO(data)):
        step = operation.name
        if step in ("PROTO", "FRAME"):
            continue
        if step == "STOP":
            return stack[-1]
        if step in CONSTANTS:
            stack.append(CONSTANTS[step])
        elif step in NUMBERS or step in TEXTS:
            stack.append(argument)
        elif step == "GLOBAL":
            if argument not in (*KINDS, *CALLS):
                raise ValueError(f"it asks for {argument.replace(' ', '.')[:200]}")
            stack.append(Name(argument))
        elif step in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif step in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif step == "MARK":
            stack.append(Mark())
        elif step in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[step]())
        elif step in TUPLES or step == "TUPLE":
            stack.append(tuple(_taken(stack, TUPLES.get(step))))
        elif step in ("SETITEM", "SETITEMS"):
            pairs = _taken(stack, 2 if step == "SETITEM" else None)
            if not all(isinstance(key, str | int) for key in pairs[::2]):
                raise ValueError(
                    "it has a key that is no text"
                )  # of tuples, hashing may take for ever
            _kept(stack[-1], dict).update(zip(pairs[::2], pairs[1::2], strict=True))
        elif step in ("APPEND", "APPENDS"):
            more = _taken(stack, 1 if step == "APPEND" else None)
            _kept(stack[-1], list).extend(more)
        elif step == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif step == "REDUCE":
            function, given = _taken(stack, 2)
            stack.append(_call(function, given))
        elif step == "BUILD":  # the versions of modules, of which an OrderedDict keeps a note
            stack.pop()
            _kept(stack[-1], dict)
        else:
            raise ValueError(f"it has the instruction {step}")
    raise ValueError("it ends too early")


def _taken(stack: list, count: int | None) -> list:
    """The last `count` things of `stack`, or those after the last mark."""
    if count is None:
        place = next(at for at in range(len(stack) - 1, -1, -1) if isinstance(stack[at], Mark))
        taken = stack[place + 1 :]
        del stack[place:]
        return taken
    if len(stack) < count:
        raise ValueError("it takes what is not there")
    taken = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return taken


def _kept(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"it fills a {type(value).__name__}")
    return value


def _storage(named: Any) -> Storage:
    word, kind, entry, _, count = named
    if word != "storage" or not isinstance(kind, Name) or kind.name not in KINDS:
        raise ValueError("it names numbers of another kind")
    if not isinstance(entry, str) or not _whole((count,)):
        raise ValueError("it names numbers that cannot be")
    return Storage(KINDS[kind.name], entry, count)


def _call(function: Any, given: Any) -> Any:
    if function == Name(DICT) and given in ((), ([],)):
        return {}
    if function == Name(PARAMETER) and isinstance(given[0], Tensor):
        return given[0]
    if function == Name(TENSOR):
        storage, offset, shape, strides = given[:4]
        right = isinstance(storage, Storage) and isinstance(shape, tuple)
        right = right and isinstance(strides, tuple) and len(shape) == len(strides) <= 32
        if right and _whole((offset, *shape, *strides)):
            return Tensor(storage, offset, shape, strides)
    raise ValueError("it makes something that is no tensor")


def _whole(numbers: tuple) -> bool:
    return all(type(number) is int and 0 <= number < 2**40 for number in numbers)
