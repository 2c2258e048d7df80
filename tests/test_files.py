"""Atomic writing, locks, room on the disk, strict reading."""

import errno
import os
import subprocess
import sys
import time

import pytest

from fairseq_powernorm.files import (
    atomic_write,
    check_free_space,
    check_room_to_grow,
    exclusive,
    read_lines,
    read_parallel_lines,
    refuse_to_overwrite,
)


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old\n")
    with pytest.raises(RuntimeError), atomic_write(path) as stream:
        stream.write("new")
        raise RuntimeError
    assert path.read_text() == "old\n" and list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_text_is_utf8(tmp_path):
    with atomic_write(tmp_path / "a" / "b.txt") as stream:
        stream.write("grün\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"gr\xc3\xbcn\n"


def test_a_full_disk_keeps_the_old_file_and_ends_with_one_line(tmp_path):
    """RLIMIT_FSIZE makes writes fail as a full disk does: with an OSError in the middle."""
    (tmp_path / "big.txt").write_text("old\n")
    program = (
        "import resource, signal, sys\n"
        "from fairseq_powernorm.files import atomic_write, run_command_line\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "def main():\n"
        "    with atomic_write('big.txt') as stream:\n"
        "        stream.write('x' * 100_000)\n"
        "run_command_line(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "File too large" in done.stderr
    assert (tmp_path / "big.txt").read_text() == "old\n" and len(list(tmp_path.iterdir())) == 1


def test_invalid_utf8_is_named_with_its_line(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"fine\nbad \xff\n")
    with pytest.raises(ValueError, match=r"text, line 2: not valid UTF-8"):
        read_lines(path)


def test_lines_end_at_newlines_only(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("a\u2028b\x0bc\r\nd".encode())
    assert read_lines(path) == ["a\u2028b\x0bc", "d"]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, caplog):
    path = tmp_path / "text"
    path.write_bytes("\ufeffa\n\ufeffb\n".encode())
    assert read_lines(path) == ["a", "\ufeffb"]
    assert caplog.messages == [f"{path} begins with a byte order mark, which is left out"]


def test_sides_of_different_length_are_named(tmp_path):
    (tmp_path / "a").write_text("1\n2\n")
    (tmp_path / "b").write_text("1\n")
    with pytest.raises(ValueError, match=r"a has 2 lines, .*b has 1 lines"):
        read_parallel_lines(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a").write_text("")
    with pytest.raises(ValueError, match="no lines"):
        read_parallel_lines(tmp_path / "a", tmp_path / "a")


def test_an_existing_file_is_kept_without_force(tmp_path):
    path = tmp_path / "file"
    refuse_to_overwrite(path, force=False)
    path.touch()
    refuse_to_overwrite(path, force=True)
    with pytest.raises(FileExistsError, match="--force"):
        refuse_to_overwrite(path, force=False)


def test_a_second_process_waits_for_the_first_and_for_what_it_started(tmp_path):
    """The holder is killed; the command that it had started keeps the lock until its end."""
    holder = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import subprocess, sys, time, pathlib; from fairseq_powernorm.files import exclusive\n"
            f"with exclusive(pathlib.Path({str(tmp_path)!r})):\n"
            "    subprocess.Popen(['sleep', '2'], close_fds=False, stdout=subprocess.DEVNULL)\n"
            "    print('held', flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"
    began = time.monotonic()
    holder.kill()
    holder.wait()
    with exclusive(tmp_path):
        assert time.monotonic() - began > 1


def test_a_program_reads_and_writes_utf8_in_any_locale():
    program = (
        "import sys; from fairseq_powernorm.files import read_and_write_utf8; read_and_write_utf8()\n"
        "print(sys.flags.utf8_mode, sys.argv[1:], chr(223))"
    )
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program, "größe"], capture_output=True, env={**os.environ, **variables}, check=True
    )
    assert done.stdout.decode() == "1 ['größe'] ß\n"


def test_free_space_is_judged_by_the_disk_of_a_folder_that_does_not_exist_yet(limit_disk, tmp_path):
    limit_disk(2 * 10**9)
    check_free_space(tmp_path / "not" / "there", 2 * 10**9)
    with pytest.raises(OSError, match=r"2.500 GB needed, 2.000 GB free") as raised:
        check_free_space(tmp_path / "not" / "there", 2_500_000_000)
    assert raised.value.errno == errno.ENOSPC


def test_what_folders_hold_already_is_not_asked_for_again(limit_disk, tmp_path):
    (tmp_path / "half" / "deep").mkdir(parents=True)
    (tmp_path / "half" / "deep" / "file").write_bytes(bytes(60))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_bytes(bytes(300))  # more than it should, which helps no other folder
    folders = [tmp_path / "half", tmp_path / "full", tmp_path / "none"]
    limit_disk(40 + 100)
    check_room_to_grow(100, *folders)
    limit_disk(40 + 100 - 1)
    with pytest.raises(OSError, match="not enough room"):
        check_room_to_grow(100, *folders)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        ("ValueError('3 lines\\nmissing')", 1, "-c: error: 3 lines missing\n"),
        ("KeyboardInterrupt", 130, "-c: stopped; what is finished is kept, the same command does the rest\n"),
        ("RuntimeError('ours')", 1, "RuntimeError: ours\n"),  # after a traceback
    ],
)
def test_how_a_command_ends(error, status, line):
    program = f"""
from fairseq_powernorm.files import run_command_line
def main():
    raise {error}
run_command_line(main)
"""
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    assert done.returncode == status and done.stderr.endswith(line)
    assert ("Traceback" in done.stderr) == ("Runtime" in error)


def test_a_reader_that_stops_reading_is_no_error():
    program = "from fairseq_powernorm.files import run_command_line; run_command_line(lambda: print('line\\n' * 99999))"
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "{program}" | head -n 1; exit ${{PIPESTATUS[0]}}', sys.executable],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, "line\n", "")
