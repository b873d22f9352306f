"""One run from outside, without its network: who interrupts it is heeded, whenever that is."""

import os
import signal
import subprocess

from scenarios import launcher
from scenarios.batch import Unseen
from scenarios.cli import LIBRARY, main
from scenarios.load import cases_of_file

NOTHING_MISSING = {"capabilities": {"missing": []}}


class Asleep:
    """A sandbox whose run ends when it is asked to."""

    asked = 0

    def terminate(self) -> None:
        self.asked += 1

    def poll(self) -> int | None:
        return 0 if self.asked else None

    def wait(self, timeout: float | None = None) -> int:
        if not self.asked:
            raise subprocess.TimeoutExpired("run", timeout or 0.0)
        return 0


def job(folder, name="link_failover"):
    (case,) = cases_of_file(LIBRARY / f"{name}.yaml")
    return launcher.Job(case, folder / name)


def test_who_interrupts_a_run_while_it_begins_means_it(tmp_path, monkeypatch):
    asleep, claimed = Asleep(), launcher.claim

    def claim(folder):
        os.kill(os.getpid(), signal.SIGINT)
        return claimed(folder)

    monkeypatch.setattr(launcher, "claim", claim)
    monkeypatch.setattr(launcher.Run, "_launch", lambda _: asleep)
    with launcher.Interruption() as interruption:
        one = launcher.Run(job(tmp_path), NOTHING_MISSING, Unseen(), interruption)
        assert not one.go_on(0.0)
    assert interruption.count == asleep.asked == 1


def test_a_run_goes_on_without_its_terminal_where_the_caller_has_said_so():
    """As nohup does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with launcher.Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.count == 1
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_that_another_call_has_begun_meanwhile_is_left_alone(tmp_path, monkeypatch, capsys):
    """Both were called at once to resume what was left unfinished."""
    one = job(tmp_path)
    one.out.mkdir()
    (one.out / "events.jsonl").touch()
    claims = []

    def able():
        claims.append(launcher.claim(one.out))
        return ["all"]

    monkeypatch.setattr("scenarios.cli._able", able)
    monkeypatch.setattr("scenarios.cli.environment.describe", lambda _: NOTHING_MISSING)
    assert main(["run", "link_failover", "--out", str(tmp_path), "--resume"]) == 2
    assert "another call runs this there" in capsys.readouterr().err
    assert (one.out / "events.jsonl").exists()
    claims[0].close()
