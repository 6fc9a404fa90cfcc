"""Runs cases of the corpus against running stacks."""

from __future__ import annotations

from typing import Final

from tests.corpus.corpus import Case, cases
from tests.corpus.judge import Act, acts, differences
from tests.corpus.stacks import Stack
from tests.corpus.wire import Answer, answers, send, send_h2

_HONEST: Final = "a wallet"


class Trial:
    """A stack on trial: cases are sent to it one at a time, and each act is judged."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._settlements: list[tuple[str, int, str]] = []

    def faults(self, case: Case) -> list[str]:
        """Send a case; returns in what it went otherwise than expected, or ran otherwise than admitted."""
        stack, marks = self.stack, self.stack.site.marks
        before = marks.stat().st_size
        try:
            answer = self._exchange(case)
        except ConnectionRefusedError:
            return ["the server is not there"]
        found = self._after_all(before) if case.half_close else acts(marks, before)
        # What another client has set off before may be noted only now; it is judged, but not as this case's.
        found = [act for act in found if act.case == case.name or act.case not in cases()]
        expected = case.expected(stack.name)
        if expected.settled:
            self._settlements += [(case.name, act.event["seq"], expected.settled) for act in found if act.event]
        return expected.faults(answer, found) + self.judge(before)

    def _exchange(self, case: Case) -> Answer:
        stack = self.stack
        if case.h2:
            return send_h2(stack.port, case.pairs(stack.site.key), case.body.encode("latin-1"))
        received = send(stack.port, case.parts(stack.site.key), half_close=case.half_close)
        return (answers(received) or [Answer()])[0]

    def _after_all(self, before: int) -> list[Act]:
        """What a client that left early has set off: all that is noted before the act of one who asks after it."""
        stack = self.stack
        send(stack.port, cases()[_HONEST].parts(stack.site.key))
        found = acts(stack.site.marks, before)
        last = max((place for place, act in enumerate(found) if act.name == "wallet"), default=len(found))
        return [act for place, act in enumerate(found) if place != last]

    def end(self) -> list[str]:
        """Stop the server, and judge all that it ever did once more, how it was settled too."""
        self.stack.stop()
        faults = self.judge()
        site = self.stack.site
        intents, outcomes = site.intents(), site.outcomes()
        # Every action has ended one way or another, those of clients that left too.
        faults += [f"{one.body['route']} never ended" for one in intents.values() if one.body["id"] not in outcomes]
        for name, seq, settled in self._settlements:
            seen = outcomes.get(intents[seq].body["id"]) if seq in intents else None
            if seen != settled:
                faults.append(f"{name}: expected {settled}, and it was settled as {seen}")
        return faults

    def judge(self, offset: int = 0) -> list[str]:
        """Judge the acts noted after an offset."""
        found = acts(self.stack.site.marks, offset)
        if not found:
            return []
        first = min(act.event["seq"] if act.event else 1 for act in found)
        intents = self.stack.site.intents(first - 1)
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
