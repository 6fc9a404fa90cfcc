"""The key files of a log: whole or not there at all, and never another than the log names, whoever dies in between."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from afmiddleware.errors import ReceiptError
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.ledger.receipt_key import next_of, read_signing_key, write_signing_key
from afmiddleware.ledger.sqlite import SqliteLedger
from afmiddleware.model import Record
from afmiddleware.receipts.notary import rotation
from tests.ledger.test_sqlite import admit, held_lock, opened

if TYPE_CHECKING:
    from afmiddleware.receipts.checkpoint import KeySigner

POLICY = "version: 1\nservice: s\n"


def broken_off(ledger: SqliteLedger) -> tuple[KeySigner, KeySigner]:
    """A rotation that ends where the log has appointed the new key, which is not in its place yet."""
    place = ledger.location.signing
    old, new = read_signing_key(place), write_signing_key(next_of(place))
    draft, proof = rotation(ledger.head().log, old, new.public)
    ledger.commit(Record(draft, new_key=new.public, proof=proof))
    return old, new


def test_a_rotation_that_was_broken_off_comes_to_its_end(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as running:
        admit(running, "d1")
        with closing(opened(tmp_path)) as command:
            _, new = broken_off(command)
        assert admit(running, "d2").verdict.authorized
        place = running.location.signing
        assert read_signing_key(place).public != new.public
    with closing(opened(tmp_path)) as ledger:
        assert read_signing_key(place).public == new.public
        assert not next_of(place).exists()
        assert admit(ledger, "d3").verdict.authorized
        report = ReceiptLog(ledger, ledger.keys).verify()
        assert (report.code, report.signed) == ("", ledger.head().size)


def test_a_key_that_nobody_appointed_is_not_taken(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as ledger:
        admit(ledger, "d1")
        place = ledger.location.signing
    write_signing_key(next_of(place))
    place.unlink()
    other = write_signing_key(place)
    with pytest.raises(ReceiptError, match="is not the one of the receipt log"):
        opened(tmp_path)
    assert read_signing_key(place).public == other.public


def waits(process: subprocess.Popen[str]) -> bool:
    """Whether a process has come to where it waits for a lock, or to its end."""
    files = Path(f"/proc/{process.pid}/fd")
    # One that is closed in between is looked at again.
    with suppress(FileNotFoundError):
        return process.poll() is not None or any(one.readlink().suffix == ".lock" for one in files.iterdir())
    return False


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux which files a process has open")
def test_those_who_rotate_at_the_same_time_do_it_one_after_another(tmp_path: Path) -> None:
    (tmp_path / "fence.yaml").write_text(POLICY, "utf-8")
    opened(tmp_path).close()
    command = [sys.executable, "-m", "afmiddleware", "keys", "rotate", "--receipts"]
    with held_lock(tmp_path):
        running = [
            subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        while not all(waits(one) for one in running):
            pass
    said = [one.communicate(timeout=120)[1] for one in running]
    assert [one.returncode for one in running] == [0] * 3, said
    with closing(opened(tmp_path)) as ledger:
        admit(ledger, "d1")
        assert len(ledger.signing_keys()) == 4
        report = ReceiptLog(ledger, ledger.keys).verify()
        assert (report.code, report.signed) == ("", ledger.head().size)


def test_a_full_disk_leaves_no_part_of_a_key(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from pathlib import Path
        from afmiddleware.errors import ReceiptError
        from afmiddleware.ledger.receipt_key import keys_of_log, write_signing_key
        folder = Path(sys.argv[1])
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        for make in (lambda: keys_of_log(0, "", folder / "key", None, "s"), lambda: write_signing_key(folder / "pem")):
            try:
                make()
            except ReceiptError as error:
                print("cannot be made" in str(error))
        assert not [*folder.iterdir()], [*folder.iterdir()]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        keys_of_log(0, "", folder / "key", None, "s")
        write_signing_key(folder / "pem")
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True\nTrue\n"), done.stderr
    assert sorted((one.name, one.stat().st_mode & 0o777) for one in tmp_path.iterdir()) == [
        ("key", 0o600),
        ("pem", 0o600),
    ]
