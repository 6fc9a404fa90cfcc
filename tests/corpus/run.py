"""Runs cases of the corpus against running stacks."""

from __future__ import annotations

from tests.corpus.corpus import Case
from tests.corpus.judge import acts, differences
from tests.corpus.stacks import Stack
from tests.corpus.wire import Answer, answers, send


class Trial:
    """A stack on trial: cases are sent to it one at a time, and each act is judged."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.judged = 0

    def faults(self, case: Case) -> list[str]:
        """Send a case; returns in what it went otherwise than expected, or ran otherwise than admitted."""
        stack, marks = self.stack, self.stack.site.marks
        before = marks.stat().st_size
        received = send(stack.port, case.parts(stack.site.key), half_close=case.half_close)
        answer = (answers(received) or [Answer()])[0]
        found = acts(marks, before)
        expected = case.expected(stack.name)
        return expected.faults(answer, found) + self.judge(before)

    def judge(self, offset: int = 0) -> list[str]:
        """Judge the acts noted after an offset."""
        found = acts(self.stack.site.marks, offset)
        if not found:
            return []
        intents = self.stack.site.intents()
        faults = []
        taken: set[int] = set()
        for act in found:
            seq = act.event["seq"] if act.event else 0
            faults += [f"{act.name}: {fault}" for fault in differences(act, intents.get(seq))]
            if seq in taken:
                faults.append(f"{act.name}: ran a second time on one admission")
            if seq:
                taken.add(seq)
        return faults
