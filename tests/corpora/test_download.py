"""Downloads: checked, whole or not at all. A server on this machine stands for the archives', with its faults."""

import errno
import hashlib
import http.client
import http.server
import io
import logging
import os
import re
import threading
import time
import urllib.request
import urllib.response

import pytest

from fairseq_powernorm.corpora import download
from fairseq_powernorm.corpora.download import RemoteFile, digest_of, fetch, fetch_all
from fairseq_powernorm.files import exclusive

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
WRONG = CONTENT[:-1] + b"?"
NOWHERE = "http://127.0.0.1:1"  # nothing listens there
HALF = len(CONTENT) // 2


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content`` under ``/good`` and, under the other names of ``answer``, what servers do wrong."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.requests = CONTENT, True, []
        self.cuts, self.stalls, self.released = [], [], threading.Event()  # where the next answers end, or stop

    def url(self, name="good"):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        name, asked = self.path.strip("/"), self.headers["Range"]
        self.server.requests.append((name, asked))
        content = {"wrong": WRONG, "long": CONTENT + b"?", "short": CONTENT[:HALF]}.get(name, self.server.content)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.server.ranges else 0
        if name == "404":
            return self.send_error(404)
        if name in ("ftp", "file"):
            self.send_response(302)
            self.send_header("Location", f"{name}://127.0.0.1/etc/passwd")
            return self.end_headers()
        if asked and self.server.ranges and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            shift = 1 if name == "shifted" else 0
            self.send_header("Content-Range", f"bytes {start - shift}-{len(content) - 1}/{len(content)}")
        if name not in ("unannounced", "endless"):
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.server.stalls:
            self.wfile.write(content[start : self.server.stalls.pop(0)])
            return self.server.released.wait(30)
        end = self.server.cuts.pop(0) if self.server.cuts else len(content)
        self.wfile.write(content[start:end])
        if name == "endless":
            self.wfile.write(content)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "RETRY_PAUSES", (0, 0, 0))
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.released.set()
        running.shutdown()


def remote(*urls, **changes):
    return RemoteFile(**{"name": "file.tgz", "urls": urls, "size": len(CONTENT), "sha256": SHA256} | changes)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_a_file_arrives_whole_and_is_not_fetched_again(server, tmp_path):
    path = fetch(remote(server.url()), tmp_path / "to")
    assert path == tmp_path / "to" / "file.tgz" and path.read_bytes() == CONTENT
    assert names(tmp_path / "to") == ["file.tgz"]
    assert fetch(remote(NOWHERE), tmp_path / "to") == path
    assert server.requests == [("good", None)]


@pytest.mark.parametrize("known", [{"sha256": None, "md5": MD5}, {"size": None}, {"size": None, "sha256": None}])
def test_a_file_arrives_with_less_known_about_it(server, tmp_path, known):
    assert fetch(remote(server.url(), **known), tmp_path).read_bytes() == CONTENT


def test_only_a_file_of_which_nothing_is_known_is_taken_with_a_warning(server, tmp_path, caplog):
    fetch(remote(server.url(), sha256=None), tmp_path / "size")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    fetch(remote(server.url(), size=None, sha256=None), tmp_path / "nothing")
    assert "neither size nor digest is known" in caplog.text


def test_a_part_of_an_earlier_call_is_continued(server, tmp_path):
    (tmp_path / "file.tgz.part").write_bytes(CONTENT[:HALF])
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT
    assert server.requests == [("good", f"bytes={HALF}-")] and names(tmp_path) == ["file.tgz"]


def test_a_part_that_is_whole_is_checked_without_a_request(server, tmp_path):
    (tmp_path / "file.tgz.part").write_bytes(CONTENT)
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT
    assert server.requests == []


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"?", WRONG])
def test_a_part_beyond_which_the_server_has_nothing_is_taken_only_by_its_digest(server, tmp_path, part):
    (tmp_path / "file.tgz.part").write_bytes(part)
    assert fetch(remote(server.url(), size=None), tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == (1 if part == CONTENT else 2)


def test_a_server_without_ranges_starts_from_the_beginning(server, tmp_path):
    server.ranges = False
    (tmp_path / "file.tgz.part").write_bytes(CONTENT[:HALF])
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT
    assert server.requests == [("good", f"bytes={HALF}-")]


def test_a_broken_connection_is_continued_where_it_broke(server, tmp_path, caplog):
    server.cuts = [1000, 5000]
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=1000-", "bytes=5000-"]
    assert f"the connection broke after 1000 of {len(CONTENT)} bytes; going on" in caplog.text


def test_a_broken_connection_is_noticed_without_a_known_size(server, tmp_path):
    server.cuts = [1000]
    assert fetch(remote(server.url(), size=None, sha256=None), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=1000-"]


def test_a_server_that_falls_silent_is_asked_again_for_what_is_lacking(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.3)
    server.stalls = [1000]
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=1000-"]


def test_an_address_that_gives_nothing_is_left_without_a_pause(server, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("a pause"))
    assert fetch(remote(NOWHERE, server.url()), tmp_path).read_bytes() == CONTENT


def test_connections_that_keep_breaking_are_given_up_and_leave_only_the_part(server, tmp_path):
    server.cuts = [1000, 2000, 3000, 4000, 5000]
    with pytest.raises(OSError, match=f"broke after 4000 of {len(CONTENT)} bytes"):
        fetch(remote(server.url()), tmp_path)
    assert names(tmp_path) == ["file.tgz.part"]
    assert (tmp_path / "file.tgz.part").read_bytes() == CONTENT[:4000]
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT  # cut once more, then whole
    assert server.requests[4:] == [("good", "bytes=4000-"), ("good", "bytes=5000-")]


def test_a_part_that_was_wrong_is_removed_and_begun_again(server, tmp_path, caplog):
    (tmp_path / "file.tgz.part").write_bytes(b"?" * HALF)
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [f"bytes={HALF}-", None]
    assert re.search(r"file.tgz.part: SHA-256 is \w+, expected .*removed and begun again", caplog.text)


def test_a_part_longer_than_the_whole_is_removed(server, tmp_path, caplog):
    (tmp_path / "file.tgz.part").write_bytes(CONTENT + b"?")
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT
    assert server.requests == [("good", None)] and "is removed: longer than the whole" in caplog.text


def test_a_part_that_no_digest_could_check_is_not_continued(server, tmp_path):
    (tmp_path / "file.tgz.part").write_bytes(b"?" * HALF)
    assert fetch(remote(server.url(), sha256=None), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("bad", ["404", "wrong", "long", "short", "endless", "ftp", "file", "nowhere"])
def test_the_next_address_is_tried_when_one_fails(server, tmp_path, bad, caplog):
    url = f"{NOWHERE}/x" if bad == "nowhere" else server.url(bad)
    assert fetch(remote(url, server.url()), tmp_path).read_bytes() == CONTENT
    assert url in caplog.text and names(tmp_path) == ["file.tgz"]


def test_a_redirection_to_ftp_is_refused_though_urllib_follows_it(server, tmp_path, monkeypatch):
    answer = urllib.response.addinfourl(io.BytesIO(CONTENT), http.client.HTTPMessage(), "ftp://127.0.0.1/etc/passwd")
    monkeypatch.setattr(urllib.request.FTPHandler, "ftp_open", lambda *_: answer)
    with pytest.raises(OSError, match="got HTTP status None"):
        fetch(remote(server.url("ftp")), tmp_path)


def test_the_next_address_goes_on_with_what_the_one_before_gave(server, tmp_path):
    server.cuts = [1000, 1000, 1000, 1000]
    assert fetch(remote(server.url("first"), server.url("second")), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == ("second", "bytes=1000-")


def test_a_right_mirror_is_not_blamed_for_the_wrong_bytes_of_another(server, tmp_path):
    server.content, server.cuts = b"?" * len(CONTENT), [1000, 1000, 1000, 1000]

    class Right(Server):
        pass

    with Right() as right:
        threading.Thread(target=right.serve_forever, args=(0.01,), daemon=True).start()
        assert fetch(remote(server.url(), right.url()), tmp_path).read_bytes() == CONTENT
        right.shutdown()
    assert [asked for _, asked in right.requests] == ["bytes=1000-", None]


def test_when_every_address_fails_one_line_names_each_with_its_reason(server, tmp_path):
    urls = [server.url("404"), server.url("wrong"), server.url("short"), f"{NOWHERE}/x"]
    with pytest.raises(OSError) as raised:
        fetch(remote(*urls), tmp_path)
    line = str(raised.value)
    reasons = ["HTTP status 404", "SHA-256 is .*removed", f"announces {HALF} bytes, expected {len(CONTENT)}", "refused"]
    pattern = ".*".join(f"{re.escape(url)}: .*{reason}" for url, reason in zip(urls, reasons, strict=True))
    assert re.search(pattern, line) and "--from DIR" in line and "\n" not in line
    assert names(tmp_path) == []


def test_a_wrong_length_is_refused_before_the_content_is_read(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_read", lambda response: pytest.fail("the content was read"))
    with pytest.raises(OSError, match=f"announces {len(CONTENT) + 1} bytes, expected {len(CONTENT)}"):
        fetch(remote(server.url("long")), tmp_path)


def test_more_than_the_known_size_is_not_kept(server, tmp_path):
    with pytest.raises(OSError, match=f"sends more than the {len(CONTENT)} bytes expected; removed"):
        fetch(remote(server.url("endless")), tmp_path)
    assert names(tmp_path) == []


def test_a_server_that_sends_another_range_is_not_believed(server, tmp_path):
    (tmp_path / "file.tgz.part").write_bytes(CONTENT[:HALF])
    with pytest.raises(OSError, match=f"asked for the bytes from {HALF} on, got HTTP status 206 bytes {HALF - 1}-"):
        fetch(remote(server.url("shifted")), tmp_path)
    assert (tmp_path / "file.tgz.part").read_bytes() == CONTENT[:HALF]


def test_an_answer_without_a_length_is_checked_all_the_same(server, tmp_path):
    assert fetch(remote(server.url("unannounced")), tmp_path / "whole").read_bytes() == CONTENT
    server.cuts = [1000]
    assert fetch(remote(server.url("unannounced")), tmp_path / "cut").read_bytes() == CONTENT


def test_a_file_without_an_address_asks_for_a_copy(tmp_path):
    with pytest.raises(OSError, match=r"no address is known.*--from DIR"):
        fetch(remote(), tmp_path)


@pytest.mark.parametrize(
    "changed", [{"size": len(CONTENT) + 1}, {"sha256": "0" * 64}, {"sha256": None, "md5": "0" * 32}]
)
def test_a_damaged_file_that_is_there_is_named_and_left_alone(server, tmp_path, changed):
    (tmp_path / "file.tgz").write_bytes(CONTENT)
    with pytest.raises(ValueError, match=r"file.tgz: .*expected .*damaged or another version"):
        fetch(remote(server.url(), **changed), tmp_path)
    assert (tmp_path / "file.tgz").read_bytes() == CONTENT and server.requests == []


def test_a_copy_at_hand_is_taken_instead(server, tmp_path):
    (tmp_path / "file.tgz").write_bytes(CONTENT)
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "file.tgz.part").write_bytes(CONTENT[:HALF])
    assert fetch(remote(server.url()), tmp_path / "to", tmp_path).read_bytes() == CONTENT
    assert names(tmp_path / "to") == ["file.tgz"] and server.requests == []


@pytest.mark.parametrize("content", [WRONG, CONTENT[:HALF]])
def test_a_wrong_copy_is_named_and_leaves_nothing(tmp_path, content):
    (tmp_path / "file.tgz").write_bytes(content)
    (tmp_path / "to").mkdir()
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/file.tgz: ") + ".*expected"):
        fetch(remote(), tmp_path / "to", tmp_path)
    assert names(tmp_path / "to") == []


def test_a_missing_copy_is_named_and_nothing_made(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path}/file.tgz does not exist")):
        fetch(remote(), tmp_path / "to", tmp_path)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("known", [{}, {"size": None}])
def test_a_full_disk_is_noticed_before_anything_is_written(server, tmp_path, limit_disk, known):
    limit_disk(len(CONTENT) - 1)
    with pytest.raises(OSError, match="not enough room"):
        fetch(remote(server.url(), NOWHERE, **known), tmp_path)
    assert names(tmp_path) == [] and len(server.requests) == (0 if not known else 1)


def test_room_is_needed_only_for_the_bytes_still_to_come(server, tmp_path, limit_disk):
    (tmp_path / "file.tgz.part").write_bytes(CONTENT[:HALF])
    limit_disk(len(CONTENT) - HALF)
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT


def test_a_disk_that_fills_up_ends_the_call_and_keeps_the_part(server, tmp_path, monkeypatch):
    server.cuts = [1000]

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left on device; what arrived is kept: '.*file.tgz.part'"):
            fetch(remote(server.url(), server.url("second")), tmp_path)
    assert names(tmp_path) == ["file.tgz.part"]
    assert all(name == "good" for name, _ in server.requests)  # another address would not help
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_write_without_room_is_not_taken_for_a_network_error(server, tmp_path):
    (tmp_path / "file.tgz.part").symlink_to("/dev/full")  # every write to it raises ENOSPC
    with pytest.raises(OSError, match="No space left on device"):
        fetch(remote(server.url(), server.url("second")), tmp_path)
    assert [name for name, _ in server.requests] == ["good"] and not (tmp_path / "file.tgz").exists()


def test_digests_are_those_of_the_content(tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    assert digest_of(tmp_path / "file") == SHA256 and digest_of(tmp_path / "file", "md5") == MD5


def test_all_files_come_in_their_order(server, tmp_path):
    remotes = [remote(server.url(), name="b"), remote(server.url(), name="a")]
    assert fetch_all(remotes, tmp_path) == [tmp_path / "b", tmp_path / "a"]
    assert names(tmp_path) == ["a", "b"]


def test_nothing_is_fetched_if_the_last_file_cannot_be(server, tmp_path, limit_disk):
    (tmp_path / "a").write_bytes(CONTENT)
    with pytest.raises(FileNotFoundError, match="b does not exist"):
        fetch_all([remote(name="a"), remote(name="b")], tmp_path / "to", tmp_path)
    (tmp_path / "b").write_bytes(CONTENT[:HALF])
    with pytest.raises(ValueError, match=f"b: {HALF} bytes, expected {len(CONTENT)}"):
        fetch_all([remote(name="a"), remote(name="b")], tmp_path / "to", tmp_path)
    limit_disk(2 * len(CONTENT) - 1)
    with pytest.raises(OSError, match="not enough room"):
        fetch_all([remote(server.url(), name="a"), remote(server.url(), name="b")], tmp_path / "to")
    assert not (tmp_path / "to").exists() and server.requests == []


def test_a_second_process_waits_and_finds_the_file_there(server, tmp_path):
    with exclusive(tmp_path):  # as another process holds it that downloads
        waiting = threading.Thread(target=fetch, args=(remote(server.url()), tmp_path))
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive() and server.requests == []
        (tmp_path / "file.tgz").write_bytes(CONTENT)
    waiting.join(30)
    assert not waiting.is_alive() and server.requests == []


def test_a_wrong_file_that_is_there_gives_way_to_a_copy(tmp_path):
    (tmp_path / "to").mkdir()
    (tmp_path / "file.tgz").write_bytes(CONTENT)
    for wrong in (b"short", WRONG):
        (tmp_path / "to" / "file.tgz").write_bytes(wrong)
        with pytest.raises(ValueError, match=r"damaged or another version; remove it, or give --from"):
            fetch(remote(), tmp_path / "to")
        assert (tmp_path / "to" / "file.tgz").read_bytes() == wrong
        assert fetch(remote(), tmp_path / "to", tmp_path).read_bytes() == CONTENT
        assert fetch_all([remote()], tmp_path / "to", tmp_path)[0].read_bytes() == CONTENT


def test_where_anything_is_taken_the_latest_copy_counts(tmp_path):
    """As with --any-archive: what an earlier call took must not hide the file that is given now."""
    anything = remote(size=None, sha256=None)
    (tmp_path / "to").mkdir()
    for content in (b"first", CONTENT, WRONG):
        (tmp_path / "file.tgz").write_bytes(content)
        assert fetch(anything, tmp_path / "to", tmp_path).read_bytes() == content
