"""Blocks of lines through several processes: order, bounded memory, errors that name file and line."""

import functools
import gzip
import os

import pytest

from fairseq_powernorm.corpora import parallel_lines
from fairseq_powernorm.corpora.parallel_lines import map_blocks, map_lines, read_rows


def joined(rows, mark="-"):
    return [(mark.join(row), row[0]) for row in rows]


def without_odd(rows):
    return [row for row in rows if int(row[0]) % 2 == 0]


def dying(rows):
    os._exit(9)


def failing(rows):
    raise ValueError("block of " + rows[0][0])


@pytest.fixture
def numbers(tmp_path):
    paths = [tmp_path / "a b.de", tmp_path / "a b.en"]
    for path, sign in zip(paths, ("", "-"), strict=True):
        path.write_text("".join(f"{sign}{number}\n" for number in range(5000)), encoding="utf-8")
    return paths


@pytest.mark.parametrize("workers", [1, 3])
def test_the_order_is_kept(numbers, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(parallel_lines, "LINES_PER_BLOCK", 7)
    outputs = [tmp_path / "out" / "x.de", tmp_path / "out" / "x.en"]
    function = functools.partial(joined, mark=" ")
    assert map_lines(function, read_rows(numbers), outputs, "test", workers) == (5000, 5000)
    assert outputs[0].read_text(encoding="utf-8") == "".join(f"{number} -{number}\n" for number in range(5000))
    assert outputs[1].read_bytes() == numbers[0].read_bytes()


def test_lines_may_be_dropped(numbers, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel_lines, "LINES_PER_BLOCK", 1)  # whole blocks come out empty
    assert map_lines(without_odd, read_rows(numbers), [tmp_path / "x", tmp_path / "y"], "test", 1) == (5000, 2500)
    assert (tmp_path / "y").read_text(encoding="utf-8").split()[:3] == ["-0", "-2", "-4"]


def test_no_more_is_read_than_the_processes_need(monkeypatch):
    monkeypatch.setattr(parallel_lines, "LINES_PER_BLOCK", 10)
    taken = 0

    def rows():
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield (str(number),)

    blocks = map_blocks(joined, rows(), workers=2)
    next(blocks)
    assert taken <= 10 * 2 * parallel_lines.BLOCKS_PER_WORKER
    blocks.close()


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ((b"a\nb\n", b"a\n"), "y ends after 1 lines"),
        ((b"a\n", b"a\nb\nc\n"), "x ends after 1 lines"),
        ((b"a\n\xff\n", b"a\nb\n"), "x, line 2: not valid UTF-8"),
    ],
)
def test_bad_input_leaves_nothing(tmp_path, contents, message):
    paths = [tmp_path / "x", tmp_path / "y"]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        map_lines(joined, read_rows(paths), [tmp_path / "out", tmp_path / "out2"], "test", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def test_only_a_line_feed_ends_a_line(tmp_path):
    path = tmp_path / "x"
    path.write_bytes("a\x85b\u2028c\r\nd\re\n".encode())
    assert list(read_rows([path])) == [("a\x85b\u2028c",), ("d\re",)]
    assert list(read_rows([path], skip=lambda line: line.startswith("a"))) == [("d\re",)]


def test_packed_files_and_byte_order_marks(tmp_path, caplog):
    content = "\ufeffa\r\nb".encode()
    (tmp_path / "x.gz").write_bytes(gzip.compress(content))
    (tmp_path / "y").write_bytes(content)
    assert list(read_rows([tmp_path / "x.gz", tmp_path / "y"])) == [("a", "a"), ("b", "b")]
    assert len(caplog.messages) == 2 and "byte order mark" in caplog.messages[0]
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"x.gz: damaged, or not gzip"):
        list(read_rows([tmp_path / "x.gz"]))


def test_an_error_in_a_process_is_its_own(numbers, tmp_path):
    with pytest.raises(ValueError, match="block of 0"):
        map_lines(failing, read_rows(numbers), [tmp_path / "out"], "test", 2)


def test_a_process_that_dies_is_one_line(numbers, tmp_path):
    with pytest.raises(OSError, match="was killed; is there enough memory"):
        map_lines(dying, read_rows(numbers), [tmp_path / "out"], "test", 2)
    assert not (tmp_path / "out").exists()
