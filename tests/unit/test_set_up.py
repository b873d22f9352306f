"""What ./teambed says where it is not set up for whoever calls it; it installs nothing here."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("made", [False, True])
def test_who_may_not_run_its_python_is_told_so(open_folder: Path, as_nobody: list[str], made: bool) -> None:
    """By root with a Python of its own, say: to call it once more as root would change nothing."""
    private, venv = open_folder / "private", open_folder / ".venv"
    shutil.copy(ROOT / "teambed", open_folder)
    python = private / "python3.11"
    if made:
        (venv / "bin").mkdir(parents=True)
        private.mkdir()
        python.symlink_to("/bin/true")
        private.chmod(0)
        (venv / "bin" / "python").symlink_to(python)
        (venv / "pyvenv.cfg").write_text(f"home = {private}\nexecutable = {python}\n")
    open_folder.chmod(0o555)
    done = subprocess.run([*as_nobody, open_folder / "teambed", "list"], capture_output=True, text=True, timeout=60)
    open_folder.chmod(0o755)
    if made:
        private.chmod(0o755)
    what, remedy = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (3, "")
    if made:
        assert what == f"teambed: {venv} was made with {python}, which you may not run"
        assert remedy.startswith(f"teambed:   remedy: as root: rm -r {venv}, then PATH=")
    else:
        assert what == f"teambed: {open_folder} is not set up yet and not writable"
