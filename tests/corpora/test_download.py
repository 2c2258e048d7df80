"""Downloads: checked, whole or not at all. A server on this machine stands for the archive's."""

import functools
import hashlib
import http.server
import threading

import pytest

from fairseq_powernorm.corpora.download import fetch, sha256_of

CONTENT = b"some archive\n" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file.gz").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_from_a_server_then_not_again(server, tmp_path):
    path = fetch("file.gz", SHA256, tmp_path / "to", server)
    assert path.read_bytes() == CONTENT and sha256_of(path) == SHA256
    assert fetch("file.gz", SHA256, tmp_path / "to", "http://127.0.0.1:1") == path  # there already


def test_from_a_folder(tmp_path):
    (tmp_path / "file.gz").write_bytes(CONTENT)
    assert fetch("file.gz", SHA256, tmp_path / "to", "", source=tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_keeps_nothing(server, tmp_path):
    with pytest.raises(ValueError, match="nothing was kept"):
        fetch("file.gz", "0" * 64, tmp_path / "to", server)
    assert list((tmp_path / "to").iterdir()) == []


def test_a_damaged_file_that_is_there_is_named(tmp_path):
    (tmp_path / "file.gz").write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=r"file.gz: SHA-256 is \w+, expected"):
        fetch("file.gz", SHA256, tmp_path, "")


def test_what_is_not_there(server, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        fetch("absent.gz", SHA256, tmp_path / "to", "", source=tmp_path)
    with pytest.raises(OSError, match=r"absent.gz: .*--from"):
        fetch("absent.gz", SHA256, tmp_path / "to", server)
    with pytest.raises(OSError, match="--from"):
        fetch("file.gz", SHA256, tmp_path / "to", "http://127.0.0.1:1")
