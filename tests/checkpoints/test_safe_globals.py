"""What may be unpickled: all plain data that fairseq writes, and nothing that follows pointers or runs code."""

import argparse
import collections
import pathlib
import pickle

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fairseq_powernorm.checkpoints.io import load_checkpoint


def stored(value, path):
    torch.save({"model": {}, "value": value}, path)
    return load_checkpoint(path)["value"]


PLAIN = st.one_of(
    *(kind() for kind in (arrays.boolean_dtypes, arrays.integer_dtypes, arrays.unsigned_integer_dtypes)),
    *(kind() for kind in (arrays.floating_dtypes, arrays.complex_number_dtypes)),
    *(kind(max_len=3) for kind in (arrays.byte_string_dtypes, arrays.unicode_string_dtypes)),
)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(PLAIN, arrays.array_shapes(min_dims=0, min_side=0)))
def test_numpy_arrays_and_scalars_come_back(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("numpy") / "checkpoint.pt"
    for original in (array, array.T, *array.ravel()[:1]):
        value = pickle.loads(pickle.dumps(original, protocol=2))  # which reads bytes of the other order into native
        found = stored(original, path)
        assert found.dtype == value.dtype and found.tobytes() == value.tobytes() and found.shape == value.shape
        torch.save({"model": {}, "value": found}, path)  # as an average does
        again = torch.load(path, weights_only=False)["value"]
        assert type(again) is type(value) and again.dtype == value.dtype and again.tobytes() == value.tobytes()


@pytest.mark.parametrize(
    "value",
    [
        argparse.Namespace(arch="x", lr=[0.1]),
        pathlib.Path("/a/b"),
        frozenset({1, 2}),
        collections.OrderedDict(a=1),
        {"a": {1, 2}, "b": 2**70, "c": b"\x00\xff", "d": 1 + 2j, "e": torch.Size([2]), "f": torch.float16},
        OmegaConf.create({"a": 1, "b": ["x", None, 2.5, True], "c": {"d": "${a}"}}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_come_back(tmp_path, value):
    assert stored(value, tmp_path / "checkpoint.pt") == value


class Forged:
    """Pickled as a call of ``function``, with a state for what that returns."""

    def __init__(self, function, arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


RECONSTRUCT = np.array(1).__reduce__()[0]
SCALAR = np.float64(1).__reduce__()[0]


class Evil:
    def __reduce__(self):
        return eval, ("1 + 1",)


@pytest.mark.parametrize(
    "value",
    [
        np.array([{}], dtype=object),
        np.zeros(1, dtype=[("a", "f8"), ("b", "O")]),
        np.zeros(1, dtype="M8[s]"),
        Forged(np.dtype, ("O8", False, True)),
        Forged(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)),
        Forged(np.dtype, ("f8", False, True), (3, "<", (np.dtype("O"), (1,)), None, None, 8, 8, 0)),
        Forged(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (9,), np.dtype("f8"), False, b"too short")),
        Forged(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (1,), np.dtype("O"), False, b"12345678")),
        Forged(SCALAR, (np.dtype("f8"), b"1234")),
        Forged(SCALAR, (np.dtype("O"), b"12345678")),
        Evil(),
        Forged(getattr, (argparse.Namespace, "__init__")),
        Forged(np.load, ("file",)),
        Forged(pickle.loads, (b"N.",)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_pointers_and_code_are_refused(tmp_path, value):
    torch.save({"model": {}, "value": value}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt: (holds objects that are not safe|not a checkpoint that)"):
        load_checkpoint(tmp_path / "evil.pt")
