"""The method as a whole, in random sequences of thousands of steps: plain Python against the model of its text."""

from hypothesis import Phase, settings

from tests.method.machine import MethodMachine
from tests.method.world import Doors, PlainDoors


class PlainMethod(MethodMachine):
    def doors(self, capacity: int) -> Doors:
        return PlainDoors(capacity)


TestMethod = PlainMethod.TestCase
# Without Phase.shrink: making 60 steps fewer takes minutes. Add it, with fewer steps, to look into a failure.
TestMethod.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate)
)
