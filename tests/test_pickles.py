"""Files of torch.save, read as tensors alone: equal to PyTorch's, and nothing in them ever runs."""

import io
import os
import pickle
import pickletools
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from shared.network.pickles import read_pickled
from shared.network.pretrained import read_encoder
from tests.test_pretrained import features, golden, relative_error, shapes, spec_of, state

torch = pytest.importorskip("torch")
CONVERT = r"; convert it where it was made: safetensors\.torch\.save_file\("


@pytest.fixture
def saved(tmp_path):
    """Saves what it is given as PyTorch does."""

    def save(value, name="pytorch_model.bin"):
        torch.save(value, tmp_path / name)
        return tmp_path / name

    return save


def tensors():
    """Views, types and shapes of all kinds."""
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    return {
        "whole": base,
        "turned": base.permute(2, 0, 1),
        "part": base[1, 1:, ::2],
        "double": base.double() / 7,
        "half": base.half() / 7,
        "brain": base.bfloat16() / 7,
        "count": torch.tensor(7),
        "none": torch.zeros(0, 3),
        "one": torch.tensor(0.1),
        "bool": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(base[0]),
    }


@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_tensors_are_pytorchs(saved, kind):
    found, types = read_pickled(saved(kind(tensors())))
    assert found.keys() == tensors().keys()
    for name, tensor in tensors().items():
        wanted = tensor.detach()
        wanted = (wanted.float() if wanted.dtype == torch.bfloat16 else wanted).numpy()
        assert (found[name].dtype, found[name].shape) == (wanted.dtype, wanted.shape)
        assert found[name].tobytes() == np.ascontiguousarray(wanted).tobytes()
    assert (types["brain"], types["half"]) == ("bfloat16", "<f2")


def test_a_modules_state_and_lightnings(saved):
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    names = list(module.state_dict())
    assert list(read_pickled(saved(module.state_dict()))[0]) == names
    around = {"state_dict": module.state_dict(), "epoch": 3, "loops": {"a": [1.5, None, True]}}
    assert list(read_pickled(saved(around, "x.ckpt"))[0]) == names


@pytest.mark.parametrize("name", ["pytorch_model.bin", "x.ckpt"])
def test_an_encoder_of_a_pickle_has_timms_features(tmp_path, saved, name):
    which = "resnet18, narrow"
    start = "encoder." if name.endswith("ckpt") else ""
    arrays = {start + key: torch.from_numpy(array) for key, array in state(shapes(which)).items()}
    arrays[f"{start}bn1.num_batches_tracked"] = torch.tensor(9)
    saved({"state_dict": arrays} if start else arrays, name)
    (tmp_path / "preprocessing.json").write_text('{"scale": "unit"}')
    encoder = read_encoder(tmp_path / name, spec_of(which))
    wanted = golden()[0][f"{which}/running/features"]
    assert relative_error(features(which, encoder), wanted) < 1e-12


class Runs:
    """What would run a command when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


class Odd:
    """A class of somebody's own."""


def rewritten(path, data=None, **entries):
    """The file at `path` with other instructions, or other entries."""
    with zipfile.ZipFile(path) as file:
        held = {entry.filename: file.read(entry) for entry in file.infolist()}
    (top,) = {name.split("/")[0] for name in held}
    held |= {f"{top}/{name}".replace("__", "/"): value for name, value in entries.items()}
    held |= {} if data is None else {f"{top}/data.pkl": data}
    with zipfile.ZipFile(path, "w") as file:
        for name, value in held.items():
            file.writestr(name, value)
    return path


def test_what_would_run_is_refused_by_its_name_and_does_not_run(tmp_path, saved):
    mark = tmp_path / "ran"
    path = saved({"a": torch.zeros(2)})
    for bad in (
        Runs(mark),
        {"a": Runs(mark)},
        {"state_dict": {}, "x": [Runs(mark)]},
    ):
        for protocol in (2, 4):
            with pytest.raises(
                ValueError, match=r"(it asks for posix\.system|instruction \w+)\)" + CONVERT
            ):
                read_pickled(rewritten(path, pickle.dumps(bad, protocol)))
    assert not mark.exists()
    pickle.loads(pickle.dumps(Runs(mark)))  # it would have
    assert mark.exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.nn.Linear(2, 2), r"it asks for torch\.nn\.modules\.linear\.Linear"),
        (lambda: {"a": torch.zeros(2), "b": 3}, "'b' in it is no tensor"),
        (lambda: {"a": {"b": torch.zeros(2)}}, "'a' in it is no tensor"),
        (lambda: [torch.zeros(2)], "it is no dict of tensors"),
        (lambda: {}, "it is no dict of tensors"),
        (lambda: {(1, 2): torch.zeros(2)}, "it has a key that is no text"),
        (lambda: {"a": np.zeros(2)}, r"it asks for numpy\."),
        (lambda: {"a": torch.zeros(2).cfloat()}, r"it asks for torch\.ComplexFloatStorage"),
        (lambda: {"a": torch.eye(2).to_sparse()}, r"it asks for torch\._utils\._rebuild_sparse"),
        (lambda: {"a": Odd}, r"it asks for (tests\.)?test_pickles\.Odd"),
    ],
)
def test_all_that_is_no_tensor_is_refused_by_its_name(saved, make, message):
    with pytest.raises(ValueError, match=message) as error:
        read_pickled(saved(make()))
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"K\x08", b"K\x09", "not as many as said"),  # how many numbers there are
        (b"K\x04K\x01\x86", b"K\x05K\x01\x86", "reaches beyond its numbers"),  # the strides
        (
            b"K\x00K\x02K\x04\x86",
            b"K\x01K\x02K\x04\x86",
            "reaches beyond its numbers",
        ),  # the offset
        (b"K\x02K\x04\x86", b"K\x02J\xff\xff\xff\xff\x86", "no tensor"),  # a size below 0
        (b"FloatStorage", b"DoubleStorage", "not as many as said"),
        (b"X\x07\x00\x00\x00storage", b"X\x07\x00\x00\x00storagf", "numbers of another kind"),
    ],
)
def test_a_tensor_has_no_more_than_its_numbers(saved, old, new, message):
    path = saved({"a": torch.zeros(2, 4)})
    with zipfile.ZipFile(path) as file:
        (name,) = (name for name in file.namelist() if name.endswith("data.pkl"))
        data = file.read(name)
    new_data = data.replace(old, new, 1)
    if old not in data:
        pytest.skip("this PyTorch writes it otherwise")
    with pytest.raises(ValueError, match=message):
        read_pickled(rewritten(path, new_data))


def test_much_made_of_little_is_refused(saved, tmp_path):
    many = torch.zeros(50000)
    with pytest.raises(ValueError, match="its tensors are larger than the file"):
        read_pickled(saved({str(number): many for number in range(4)}))
    with pytest.raises(ValueError, match="reaches beyond its numbers"):
        read_pickled(saved({"a": torch.zeros(1).expand(20, 20)}))
    path = saved({"a": many})
    with zipfile.ZipFile(path) as file:
        held = {entry: file.read(entry) for entry in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in held.items():
            file.writestr(name, data)
    with pytest.raises(ValueError, match="is compressed"):
        read_pickled(path)


def test_hostile_instructions_cost_nothing(saved):
    path = saved({"a": torch.zeros(2)})
    deep = (
        b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b"}h\x00K\x01s."
    )  # a tuple of 2^60 parts, as a key
    far = b"\x80\x02}r\xff\xff\xff\xff."  # a memo of four thousand million
    for data in (deep, far, b"", b".", b"\x80\x02", b"\x80\x02t.", b"\x80\x02(((.", b"\x80\x02R."):
        with pytest.raises(ValueError, match="cannot be read as tensors alone"):
            read_pickled(rewritten(path, data))


def test_other_files_are_refused(tmp_path, saved):
    path = tmp_path / "old.bin"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    for data in (path.read_bytes(), b"", b"PK\x03\x04", b"<html>"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="cannot be read as tensors alone" + r".*" + CONVERT):
            read_pickled(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", b"")
        file.writestr("b/data.pkl", b"")
    with pytest.raises(ValueError, match=r"no data\.pkl, or several"):
        read_pickled(path)
    with pytest.raises(ValueError, match="big-endian"):
        read_pickled(rewritten(saved({"a": torch.zeros(2)}), byteorder=b"big"))


def test_changed_bytes_are_arrays_or_a_refusal(saved, tmp_path):
    """600 files, each with some of its bytes, or of its instructions, changed."""
    path = saved(tensors())
    whole, random = path.read_bytes(), np.random.default_rng(0)
    with zipfile.ZipFile(path) as file:
        (name,) = (name for name in file.namelist() if name.endswith("data.pkl"))
        data = file.read(name)
    steps = [at for _, _, at in pickletools.genops(io.BytesIO(data))]
    read = 0
    for number in range(600):
        one = bytearray(data if number % 2 else whole)
        for _ in range(random.integers(1, 4)):
            at = int(random.choice(steps)) if number % 4 == 1 else int(random.integers(len(one)))
            one[min(at, len(one) - 1)] = random.integers(256)
        if number % 2:
            rewritten(path, bytes(one))
        else:
            path.write_bytes(one)
        try:
            found, _ = read_pickled(path)
            read += 1
        except ValueError:  # anything else is a fault
            found = {}
        assert sum(array.nbytes for array in found.values()) <= 2 * path.stat().st_size
        path.write_bytes(whole)
    assert 0 < read < 600
