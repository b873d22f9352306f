"""The command line: all commands of `teambed`. Decides exit statuses and who is told what.

Exit status: 0 all passed, or were skipped for what this machine lacks · 1 an expectation failed or a run broke off ·
2 the scenario or the call is wrong · 3 this machine cannot run it · 130 interrupted before anything ran.
"""

import argparse
import contextlib
import errno
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from scenarios import batch, catalogue, clean, demo, environment, events, launcher
from scenarios.claim import RECORD, under_way
from scenarios.console import Console
from scenarios.load import Case, LoadError, cases_of_file, load_file
from scenarios.report import archive
from scenarios.report.junit import Case as Reported
from scenarios.spelling import near
from topologies import capabilities
from topologies.sandbox import SandboxError

PASSED, FAILED, WRONG, CANNOT = 0, 1, 2, 3
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)  # for which the kernel names no file
BUSY = "another call runs this there; wait for it, or choose another --out"
LIBRARY = Path(__file__).parent / "library"


class CallError(Exception):
    """The call is wrong: one line."""


class Parser(argparse.ArgumentParser):
    """It says what is wrong in one line; how a call is written, --help tells."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Every mistake of the caller is one line on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        status = _status(arguments)
        sys.stdout.flush()
        return status
    except OSError as error:  # of a file, a folder, a disk that is full; or who reads what is printed has gone
        if not error.filename and error.errno not in UNWRITABLE:  # a mistake of ours
            raise
        if not isinstance(error, BrokenPipeError):
            print(f"teambed: {error.filename or 'writing'}: {error.strerror}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # or Python says so once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED


def _status(arguments: argparse.Namespace) -> int:
    try:
        return int(arguments.do(arguments))
    except LoadError as error:
        print("\n".join(error.lines), file=sys.stderr)
        return WRONG
    except (CallError, archive.NoRun) as error:
        print(f"teambed: {error}", file=sys.stderr)
        return WRONG
    except SandboxError as error:
        print(f"teambed: {error}", file=sys.stderr)
        return CANNOT


def folder(name: str) -> Path:
    """Of an argument: an empty name, as of a variable that is not set, is not the current folder."""
    if not name:
        raise argparse.ArgumentTypeError("an empty name is no folder")
    return Path(name)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="teambed", description="Runs scenarios of TCP connections offloaded to teamed NICs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run scenarios and judge them")
    run.add_argument("scenarios", nargs="+", metavar="FILE|DIR|NAME", help="a file, a folder of them, or one of `list`")
    run.add_argument("--out", type=folder, metavar="DIR", help="for the results (default: results/<UTC time>)")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for example network.rate=100mbit")
    run.add_argument("--seed", type=int, metavar="N", help="short for --set seed=N")
    run.add_argument("--jobs", type=int, default=1, metavar="N", help="so many side by side")
    on_error = run.add_mutually_exclusive_group()
    for how, about in {"cli": "open a live shell in", "pause": "keep up"}.items():
        about += " the network of a scenario that fails, before it is taken down"
        on_error.add_argument(f"--{how}-on-error", dest="keep", action="store_const", const=how, help=about)
    run.add_argument("--resume", action="store_true", help="run only what is missing in --out DIR")
    run.set_defaults(do=_run)

    validate = commands.add_parser("validate", help="check scenario files, run nothing")
    validate.add_argument("scenarios", nargs="+", metavar="FILE|DIR|NAME")
    validate.set_defaults(do=_validate)

    shell = commands.add_parser("up", help="bring a network up and open a shell on it")
    shell.add_argument("scenario", metavar="FILE|NAME")
    shell.add_argument("--out", type=folder, metavar="DIR", help="for events and logs (default: results/<UTC time>)")
    shell.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    shell.set_defaults(do=_up)

    narrated = commands.add_parser("demo", help="run one scenario and tell what to look at")
    narrated.add_argument("scenario", nargs="?", default="link_failover", metavar="FILE|NAME")
    narrated.add_argument("--out", type=folder, metavar="DIR", help="for the results (default: results/<UTC time>)")
    narrated.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    narrated.set_defaults(do=_demo)

    sweep = commands.add_parser("clean", help="remove results that killed runs left unfinished")
    sweep.add_argument("folder", nargs="?", type=folder, metavar="DIR", help="default: results")
    sweep.set_defaults(do=_clean)

    commands.add_parser("schema", help="the JSON Schema of scenario files, for editors").set_defaults(do=_schema)

    commands.add_parser("list", help="the scenarios that come along").set_defaults(do=_list)

    bench = commands.add_parser("bench", help="measure speed and scale beside the alternatives")
    bench.add_argument("names", nargs="*", metavar="NAME", help="of a benchmark; all by default")
    bench.add_argument("--tiny", action="store_true", help="small numbers: shows that it works, proves nothing")
    bench.add_argument("--out", type=folder, metavar="DIR", help="for the figures (default: results/bench-<UTC time>)")
    bench.add_argument("--page", type=folder, metavar="DIR", help="measure nothing; make these figures' page anew")
    bench.set_defaults(do=_bench)

    test = commands.add_parser("test", help="run teambed's own tests", add_help=False)
    test.add_argument("pytest", nargs=argparse.REMAINDER, metavar="PYTEST ARGS")
    test.set_defaults(do=_test)

    report = commands.add_parser("report", help="judge archived runs again and write their reports anew; needs no root")
    report.add_argument("folder", type=folder, metavar="DIR", help="of one run, or of several")
    report.set_defaults(do=_report)

    commands.add_parser("doctor", help="what this machine can do and what it lacks").set_defaults(do=_doctor)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    overrides = [*arguments.set, *([f"seed={arguments.seed}"] if arguments.seed is not None else [])]
    if arguments.resume and arguments.out is None:
        raise CallError("--resume needs --out DIR: where the earlier results are")
    if arguments.jobs < 1:
        raise CallError(f"--jobs {arguments.jobs}: at least 1")
    if arguments.keep and arguments.jobs > 1:
        raise CallError(f"--{arguments.keep}-on-error needs the terminal for itself; leave out --jobs")
    jobs = _jobs(_files(arguments.scenarios), overrides, arguments.out, arguments.resume)
    jobs = [replace(job, keep=arguments.keep) for job in jobs]
    found = _able()
    if not found:
        return CANNOT
    _make(jobs[0].out.parent)
    surroundings = environment.describe(found)
    earlier = [launcher.finished(job) if arguments.resume else None for job in jobs]
    kept = [verdict for verdict in earlier if verdict]
    missing = [job for job, verdict in zip(jobs, earlier, strict=True) if not verdict]
    for job in missing:
        if job.out.is_symlink():
            job.out.unlink()
        elif job.out.exists():  # what an interrupted run left, or one of other words
            if (job.out / RECORD).exists() and under_way(job.out):  # who was called at the same time has begun it since
                raise CallError(f"{_short(job.out)}: {BUSY}")
            shutil.rmtree(job.out)
    if kept:
        print(f"{len(kept)} of {len(jobs)} have run already")
    with launcher.Interruption() as interruption:
        verdicts = kept + batch.Batch(missing, surroundings, interruption, Path.cwd()).run(arguments.jobs)
    with contextlib.suppress(OSError):  # then there are no results either, and that has been told
        ran = [job.out for job in jobs if (job.out / "result.json").is_file()]
        archive.write_junit(jobs[0].out.parent, [archive.case(folder) for folder in ran])
    launcher.give_to_caller(jobs[0].out.parent)
    counts = {one: verdicts.count(one) for one in ("pass", "fail", "error", "skip") if one in verdicts}
    if len(jobs) > 1:
        left_out = len(jobs) - len(verdicts)
        told = counts | ({"not run": left_out} if left_out else {})
        print(", ".join(f"{count} {what}" for what, count in told.items()))
    return FAILED if counts.keys() - {"pass", "skip"} or len(verdicts) < len(jobs) else PASSED


def _able() -> list[capabilities.Capability]:
    """What this machine can do; nothing, and the reason on stderr, when it can run no network."""
    if os.geteuid() != 0:
        print("teambed: needs root to make network namespaces; call it with sudo", file=sys.stderr)
        return []
    found = capabilities.probe()
    # What follows from a lack that is told already has the same detail; causes come first.
    lacking = {one.detail: one for one in reversed(found) if one.required and not one.ok}
    for one in reversed(lacking.values()):
        print(f"teambed: {one.name} is missing: {one.detail}; {one.remedy}", file=sys.stderr)
    return [] if lacking else found


def _demo(arguments: argparse.Namespace) -> int:
    file = _files([arguments.scenario])[0]
    job = _jobs([file], arguments.set, arguments.out)[0]
    found = _able()
    if not found:
        return CANNOT
    _make(job.out.parent)
    narrator = demo.Narrator(job.scenario)
    narrator.begin(file)
    with launcher.Interruption() as interruption:
        result = launcher.run(job, environment.describe(found), narrator, interruption)
    launcher.give_to_caller(job.out.parent)
    Console(job.scenario).result(result, events.read(job.out / "events.jsonl"), _short(job.out))
    return PASSED if result["verdict"] in ("pass", "skip") else FAILED


def _clean(arguments: argparse.Namespace) -> int:
    try:
        if arguments.folder is not None:  # the usual one need not be there
            os.listdir(arguments.folder)
        removed = clean.clean(arguments.folder or Path("results"))
    except OSError as error:
        raise CallError(f"{error.filename}: {error.strerror}") from None
    for folder in removed:
        print(f"removed {_short(folder)}")
    return PASSED


def _up(arguments: argparse.Namespace) -> int:
    from scenarios import up  # and with it Mininet

    job = _jobs(_files([arguments.scenario]), arguments.set, arguments.out)[0]
    if not _able():
        return CANNOT
    _make(job.out.parent)
    try:
        return up.start(job.case, job.out)
    finally:
        launcher.give_to_caller(job.out.parent)


def _make(folder: Path) -> None:
    """The folder of all results. Raises CallError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CallError(f"{_short(folder)}: {error.strerror}; choose another --out") from None


def _jobs(
    files: Sequence[Path], overrides: Sequence[str], out: Path | None, resume: bool = False
) -> list[launcher.Job]:
    """Load and check every file before anything starts. Raises LoadError with all complaints, CallError."""
    cases, complaints = [], []
    for file in files:
        try:
            cases += [(file, case) for case in cases_of_file(file, overrides)]
        except LoadError as error:
            complaints += [line for line in error.lines if line not in complaints]
    if complaints:
        raise LoadError(complaints)
    try:
        return _places(cases, out, resume)
    except OSError as error:
        raise CallError(f"{error.filename or 'the current folder'}: {error.strerror}; choose another --out") from None


def _places(cases: Sequence[tuple[Path, Case]], out: Path | None, resume: bool) -> list[launcher.Job]:
    """Where the results of each go. Raises CallError, OSError."""
    folder = (out or Path("results") / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")).absolute()
    jobs: dict[str, launcher.Job] = {}
    files_of: dict[str, Path] = {}
    for file, case in cases:
        name = case.scenario.scenario
        if name in jobs:
            raise CallError(f"{files_of[name]} and {file} are both called `{name}`; their results would mix")
        there = folder / name
        if os.path.lexists(there) and not resume:
            raise CallError(
                f"{_short(there)} exists; choose another --out, or --resume to run only what is missing there"
            )
        if there.exists() and not ((there / "events.jsonl").exists() or (there.is_dir() and not any(there.iterdir()))):
            raise CallError(f"{_short(there)} holds something else than results; choose another --out")
        if (there / RECORD).exists() and under_way(there):
            raise CallError(f"{_short(there)}: {BUSY}")
        jobs[name], files_of[name] = launcher.Job(case, there), file
    if folder.exists() and not folder.is_dir():
        raise CallError(f"{_short(folder)} is a file; --out names a folder")
    return list(jobs.values())


def _files(names: Sequence[str]) -> list[Path]:
    """Files, folders and names of the library → files. Raises CallError."""
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if not name:  # which pathlib takes for the current folder
            raise CallError("an empty name is no file, no folder and no scenario")
        if os.path.isdir(path):  # unlike pathlib's, these raise nothing
            try:
                inside = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
            except OSError as error:
                raise CallError(f"{name}: cannot be read: {error.strerror}") from None
            if not inside:
                raise CallError(f"{name} holds no scenarios (*.yaml)")
            found += inside
        elif not os.path.lexists(path) and os.path.exists(LIBRARY / f"{name}.yaml"):
            found.append(LIBRARY / f"{name}.yaml")
        elif not os.path.lexists(path) and (meant := _meant(path)):
            raise CallError(f"{name}: no such file, and not in `teambed list`; did you mean `{meant}`?")
        else:
            found.append(path)
    return found


def _meant(path: Path) -> str | None:
    """A neighbour of a file that is not there, or a name of the library, by what stands before `.yaml`."""
    known = {file.stem: file.stem for file in sorted(LIBRARY.glob("*.yaml"))}
    known |= {file.stem: str(file) for file in sorted(path.parent.glob("*.y*ml"))}
    return next((known[stem] for stem in (path.stem, *near(path.stem, list(known))) if stem in known), None)


def _validate(arguments: argparse.Namespace) -> int:
    status = PASSED
    for file in _files(arguments.scenarios):
        try:
            cases = len(cases_of_file(file))
            print(f"{file}: right" + (f", {cases} cases" if cases > 1 else ""))
        except LoadError as error:
            print("\n".join(error.lines), file=sys.stderr)
            status = WRONG
    return status


def _list(_: argparse.Namespace) -> int:
    print("\n".join(catalogue.lines([load_file(file) for file in sorted(LIBRARY.glob("*.yaml"))])))
    return PASSED


def _bench(arguments: argparse.Namespace) -> int:
    words = ["--tiny"] if arguments.tiny else []
    for option, folder in (("--out", arguments.out), ("--page", arguments.page)):
        words += [option, str(folder)] if folder is not None else []
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until it is able to heed Ctrl-C
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks", *words, *arguments.names])


def _schema(_: argparse.Namespace) -> int:
    from scenarios import language

    print(language.schema_text(), end="")
    return PASSED


def _test(arguments: argparse.Namespace) -> int:
    os.chdir(launcher.ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments.pytest])


def _report(arguments: argparse.Namespace) -> int:
    cases: list[Reported] = []
    complaints: list[str] = []
    for folder in archive.runs(arguments.folder):
        try:
            case = archive.rebuild(folder, lambda line: print(f"teambed: {line}", file=sys.stderr, flush=True))
        except LoadError as error:  # the others have their reports all the same
            complaints += error.lines
        except archive.NoRun as error:
            complaints.append(f"teambed: {error}")
        except OSError as error:
            complaints.append(f"teambed: {error.filename or folder}: {error.strerror}")
        else:
            cases.append(case)
            verdict, name = case.result["verdict"], case.result["scenario"]
            print(f"{verdict.upper()} {name}: {_short(folder / 'report.html')}")
    try:
        archive.write_junit(arguments.folder, cases)
    except OSError as error:
        complaints.append(f"teambed: {error.filename}: {error.strerror}")
    if complaints:
        raise LoadError(complaints)
    return PASSED if {case.result["verdict"] for case in cases} <= {"pass", "skip"} else FAILED


def _doctor(_: argparse.Namespace) -> int:
    found = capabilities.probe()
    width = max(len(one.name) for one in found)
    for one in found:
        sign = "✓" if one.ok else "✗" if one.required else "–"
        print(f"{sign} {one.name:{width}}  {one.detail}" + ("" if one.ok else f"; {one.remedy}"))
    return PASSED if all(one.ok for one in found if one.required) else CANNOT


def _short(path: Path) -> Path:
    return batch.short(path, Path.cwd())


if __name__ == "__main__":
    sys.exit(main())
