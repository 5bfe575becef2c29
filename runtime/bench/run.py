"""All sides through all cases, in turn, in one run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ferrum.runtime.bench.cases import Case
from ferrum.runtime.bench.load import CpuLoad
from ferrum.runtime.bench.memory import NOTHING, Memory
from ferrum.runtime.bench.process import SideProcess
from ferrum.runtime.bench.roofline import Limits

QUIET = 0.1  # of all CPU time: less than this of other programs' does not count
_TOLD = 0.1  # seconds from which on a share of CPU time can be told


@dataclass(frozen=True)
class Repetition:
    """One timed run, and the limit of its kind of work in the moments before and after it.

    A GPU's limits are not measured.
    """

    round: int
    seconds: float
    before: float | None
    after: float | None
    foreign_cpu: float  # the share of all CPU time that other programs took, readings included

    @property
    def limit(self) -> float | None:
        """The limit beside it, per second."""
        if self.before is None or self.after is None:
            return None
        return (self.before + self.after) / 2

    @property
    def disturbed(self) -> bool:
        """Whether other programs took a part of the CPU time that counts, as far as can be told."""
        return self.seconds >= _TOLD and self.foreign_cpu >= QUIET


@dataclass
class Measured:
    """What one side did in one case."""

    repetitions: list[Repetition] = field(default_factory=list)
    memory: Memory = NOTHING  # the peak of each kind
    cache_tokens: int = 0
    stages: list[dict[str, float | str]] | None = None
    again: int = 0  # disturbed repetitions that were left out, as their round was run again


Measurements = dict[tuple[Case, str], Measured]
Start = Callable[[], SideProcess]


class Runner:
    """Takes measurements; one process runs at a time, the others are stopped."""

    def __init__(
        self, limits: Limits | None, warm_ups: int, retries: int, say: Callable[[str], None]
    ) -> None:
        """`retries`: how often at most a round is run again that other programs disturbed."""
        self._limits, self._warm_ups, self._retries = limits, warm_ups, retries
        self._say = say
        self.measurements: Measurements = defaultdict(Measured)

    def together(
        self, sides: Sequence[SideProcess], cases: Sequence[Case], rounds: Iterable[int]
    ) -> None:
        """Every round runs each side once; who is first changes from round to round."""
        rounds = list(rounds)
        for case in cases:
            self._say(f"{case.label}, {case.threads} threads: {', '.join(s.name for s in sides)}")
            for side in sides:
                opened = side.open(case)
                self.measurements[case, side.name].cache_tokens = opened["cache_tokens"]
                for _ in range(self._warm_ups):
                    side.warm_up()
            for number in rounds:
                self._round(sides, case, number)
            for side in sides:
                self._note_memory(side, case)
                side.close()

    def apart(
        self,
        stay: Sequence[SideProcess],
        alone: Sequence[Start],
        cases: Sequence[Case],
        rounds: int,
        prepare: Callable[[], None],
    ) -> None:
        """As `together`, for sides that have no room beside the others: they come and go.

        `prepare` brings back what the others need and those have pushed out.
        """
        for number in range(rounds):
            prepare()
            self.together(stay, cases, [number])
            for start in alone:
                side = start()
                try:
                    self.together([side], cases, [number])
                finally:
                    side.end()

    def profile(self, side: SideProcess, cases: Sequence[Case]) -> None:
        """Each case once more, with the library's clocks, which take some time themselves."""
        for case in cases:
            side.open(case, profile=True)
            side.warm_up()
            self.measurements[case, side.name].stages = side.profile()
            side.close()

    def _round(self, sides: Sequence[SideProcess], case: Case, number: int) -> None:
        """Each side once. All of them again where one was disturbed: they are compared."""
        first = number % len(sides)
        for left in reversed(range(self._retries + 1)):
            taken = {
                side.name: self._once(side, case, number)
                for side in (*sides[first:], *sides[:first])
            }
            if left == 0 or not any(one.disturbed for one in taken.values()):
                break
            for name in taken:
                self.measurements[case, name].again += 1
        for name, one in taken.items():
            self.measurements[case, name].repetitions.append(one)

    def _once(self, side: SideProcess, case: Case, number: int) -> Repetition:
        load = CpuLoad(side.pid)
        before = self._limits.now(case) if self._limits else None
        seconds = side.run()
        after = self._limits.now(case) if self._limits else None
        return Repetition(number, seconds, before, after, load.foreign())

    def _note_memory(self, side: SideProcess, case: Case) -> None:
        measured, peak = self.measurements[case, side.name], side.memory.peak
        measured.memory = Memory(
            max(measured.memory.anonymous, peak.anonymous), max(measured.memory.file, peak.file)
        )
