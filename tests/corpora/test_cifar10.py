"""CIFAR-10 from each of its forms."""

import io
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from fairseq_powernorm.corpora import cifar10
from fairseq_powernorm.corpora.cifar10 import CLASSES, FIRST_LABELS, interleave, read_jpeg, write_images


class Harmful:
    def __reduce__(self):
        return print, ("run",)


def official(folder, first=FIRST_LABELS):
    """The official archive's files with 10 images each."""
    folder.mkdir(parents=True)
    generator, pixels = np.random.default_rng(0), {}
    for name in (*cifar10.PARTS["train"], *cifar10.PARTS["test"]):
        labels = [*first, 3, 5] if name == "data_batch_1" else [*range(10)]
        pixels[name] = generator.integers(0, 256, (10, 3072), dtype=np.uint8)
        content = {b"data": pixels[name], b"labels": labels, b"batch_label": b"x", b"filenames": [b"a.png"] * 10}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return pixels


@pytest.fixture
def small(monkeypatch):
    """Numbers of images for what official() writes, each class as often as any other."""
    monkeypatch.setattr(cifar10, "COUNTS", {"train": 50, "test": 10})
    monkeypatch.setattr(cifar10, "FIRST_LABELS", (6, 9, 0, 4, 1, 2, 7, 8))


def test_the_official_archive_packed_and_unpacked(tmp_path, small):
    pixels = official(tmp_path / "from" / "cifar-10-batches-py", cifar10.FIRST_LABELS)
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "from" / "cifar-10-batches-py", "cifar-10-batches-py")
    for source in ("from", "from/cifar-10-batches-py", "packed"):
        write_images(tmp_path / "to", tmp_path / source)
        with np.load(tmp_path / "to" / "train.npz") as arrays:
            assert arrays["labels"].tolist() == [*range(10)] * 5 and str(arrays["source"]) == "CIFAR-10"
            first = cifar10.FIRST_LABELS.index(0)
            assert (arrays["pixels"][0] == pixels["data_batch_1"][first].reshape(3, 32, 32)).all()
        with np.load(tmp_path / "to" / "test.npz") as arrays:
            assert arrays["pixels"].shape == (10, 3, 32, 32) and arrays["pixels"].dtype == np.uint8


def test_files_that_are_none_of_it(tmp_path, small):
    folder = tmp_path / "from"
    with pytest.raises(FileNotFoundError, match=r"no such folder"):
        write_images(tmp_path / "to", folder)
    folder.mkdir()
    with pytest.raises(ValueError, match=r"has neither cifar-10-python.tar.gz nor cifar-10-batches-py nor train.npz"):
        write_images(tmp_path / "to", folder)
    official(folder / "cifar-10-batches-py", (1, 1, 1, 1, 1, 1, 1, 1))
    with pytest.raises(ValueError, match=r"the labels begin with \[1 1 1 1 1 1 1 1\], not \(6, 9, "):
        write_images(tmp_path / "to", folder)
    part = folder / "cifar-10-batches-py" / "data_batch_1"
    for content in (pickle.dumps(Harmful()), b"", pickle.dumps([1]), pickle.dumps({b"data": 1, b"labels": [1]})):
        part.write_bytes(content)
        with pytest.raises(ValueError, match=r"data_batch_1"):
            write_images(tmp_path / "to", folder)
    assert not (tmp_path / "to" / "train.npz").exists()


def test_a_pickle_that_names_code_is_not_run(tmp_path, capsys):
    (tmp_path / "part").write_bytes(pickle.dumps({b"data": Harmful(), b"labels": []}))
    with pytest.raises(ValueError, match=r"it names builtins.print, which is not let through"):
        cifar10.read_part(tmp_path / "part")
    assert capsys.readouterr().out == ""


def test_too_few_images_of_a_class(tmp_path, small, monkeypatch):
    official(tmp_path / "from" / "cifar-10-batches-py", cifar10.FIRST_LABELS)
    monkeypatch.setattr(cifar10, "COUNTS", {"train": 60, "test": 10})
    with pytest.raises(ValueError, match=r"train: expected 6 images of each class, got \[5 5"):
        write_images(tmp_path / "to", tmp_path / "from")


def test_the_order_is_balanced():
    labels = np.array([1, 1, 0, 2, 2, 0, 0, 1, 2])
    assert interleave(labels).tolist() == [2, 0, 3, 5, 1, 4, 6, 7, 8]


def jpeg(path, count, classes=CLASSES):
    files = []
    for number in range(count):
        stream = io.BytesIO()
        Image.fromarray(np.full((32, 32, 3), 20 * number, dtype=np.uint8)).save(stream, format="JPEG")
        files.append(stream.getvalue())
    offset = np.cumsum([0, *map(len, files)])
    labels, content = np.arange(count) % 10, np.frombuffer(b"".join(files), dtype=np.uint8)
    np.savez(path, jpeg=content, offset=offset, label=labels, classes=np.array(classes))


def test_the_jpeg_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "COUNTS", {"train": 10, "test": 10})
    for split in ("train", "test"):
        jpeg(tmp_path / f"{split}.npz", 10)
    write_images(tmp_path / "to", tmp_path)
    with np.load(tmp_path / "to" / "train.npz") as arrays:
        assert str(arrays["source"]) == "CIFAR-10, JPEG copy" and abs(int(arrays["pixels"][4].mean()) - 80) < 2
    jpeg(tmp_path / "test.npz", 10, classes=CLASSES[::-1])
    with pytest.raises(ValueError, match=r"test.npz: the classes are truck, ship"):
        write_images(tmp_path / "to", tmp_path)


@pytest.mark.realdata
def test_the_real_jpeg_copy(real_data):
    pixels, labels = read_jpeg(real_data / "cifar10" / "test.npz")
    assert pixels.shape == (10_000, 3, 32, 32) and np.bincount(labels).tolist() == [1000] * 10
    assert abs(pixels.mean() / 255 - 0.476) < 0.01
