"""What the benchmark of the frame path says of growth, and when it does not measure."""

from pathlib import Path

import pytest

from benchmarks import frame_path
from benchmarks.harness import OURS, CannotMeasure, Figure, Sample, Series


def test_the_growth_of_memory_alone_stands_beside_ours() -> None:
    def figure(count: int, **medians: float) -> Figure:
        ours, *peers = (Series(who, (Sample(value, 1.0),)) for who, value in medians.items())
        return Figure(f"host_in, any, {count}", "ns", ours, tuple(peers))

    figures = [figure(10, **{OURS: 150, "one line": 100}), figure(1000, **{OURS: 300, "one line": 400})]
    told = frame_path._growths(figures, 10, 1000)
    assert told == "from 10 to 1,000 records, any frame, times as long: host_in 2.00, one line 4.00"


def test_it_does_not_measure_what_the_kernel_measures_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _: "1\n")
    with pytest.raises(CannotMeasure, match="bpf_stats_enabled"):
        frame_path.measure(tiny=True)
