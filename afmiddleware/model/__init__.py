"""The values everything else speaks in. No I/O, no clock, no framework."""

from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.entry import Closed, Conclusion, Entry, Held, Record
from afmiddleware.model.http import Header, HttpFacts, Target
from afmiddleware.model.limit import Balance, Balances, Charge, Limit, Unit, Window
from afmiddleware.model.money import Money
from afmiddleware.model.outcome import End, Outcome, Settlement
from afmiddleware.model.receipt import Draft, Receipt, ReceiptRef, Seal
from afmiddleware.model.tier import Tier
from afmiddleware.model.verdict import Verdict

__all__ = [
    "ActionEvent",
    "Actor",
    "Balance",
    "Balances",
    "Charge",
    "Closed",
    "Conclusion",
    "Draft",
    "End",
    "Entry",
    "Header",
    "Held",
    "HttpFacts",
    "Limit",
    "Money",
    "Outcome",
    "Receipt",
    "ReceiptRef",
    "Record",
    "Seal",
    "Settlement",
    "Target",
    "Tier",
    "Unit",
    "Verdict",
    "Window",
]
