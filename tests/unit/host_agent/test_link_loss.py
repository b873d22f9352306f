"""Where the kernel does not tell of a wire's loss, or cannot be heard, the agent lives without."""

import select
from unittest.mock import MagicMock

import pytest

from host_agent import link_loss
from host_agent.kernel import KernelError
from host_agent.link_loss import LinkLoss


@pytest.mark.parametrize("fails", ["link_loss._load", "kernel.RingBuffer", "a map"])
def test_who_cannot_hear_of_a_loss_goes_on(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, loaded, refusal = MagicMock(), MagicMock(), MagicMock(side_effect=KernelError("no"))
    loaded.map.return_value.put = refusal
    monkeypatch.setattr("host_agent.link_loss._load", lambda: loaded)
    monkeypatch.setattr("host_agent.kernel.RingBuffer", MagicMock())
    if fails != "a map":
        monkeypatch.setattr(f"host_agent.{fails}", refusal)
    loss = LinkLoss(loop, MagicMock())
    loss.watch(0, [1, 2])
    loop.after.assert_called_once_with(link_loss.LATER, loss._begin)
    loss._begin()
    done, use = loop.watch.call_args.args
    assert select.select([done], [], [], 10)[0]
    use(select.EPOLLIN)
    loss.watch(0, [1, 2])
    assert refusal.called
