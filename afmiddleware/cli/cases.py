"""`afmiddleware test` and `afmiddleware diff`: a policy against cases, and two policies against each other."""

from __future__ import annotations

import re
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree as ET

import click
import msgspec
import yaml
from click.core import ParameterSource

from afmiddleware.cli.common import echo_json, json_option, many, policy_at, policy_option
from afmiddleware.cli.events import looking_fence
from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError
from afmiddleware.former import former_policies
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.log import records_in
from afmiddleware.ledger.open import keys_for_reading, open_for_reading
from afmiddleware.model.number import Number
from afmiddleware.policy.cases import CaseError
from afmiddleware.policy.replay import advice, differences, record_of_case, replay, replay_each
from afmiddleware.policy.suite import Case, Result, compare, read_cases, run_cases, word_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from afmiddleware.config.schema import Config
    from afmiddleware.fence import Fence
    from afmiddleware.ledger.base import Reader
    from afmiddleware.policy.replay import Replay

_SQLITE = b"SQLite format 3\0"
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("test")
@click.argument("cases", type=_FILE)
@click.option("--junit", type=_FILE, default=None, help="Also write the results as JUnit XML.")
@policy_option
@json_option
def test_command(cases: Path, junit: Path | None, policy: str, *, as_json: bool) -> None:
    """Decide the cases of a file and compare with what they expect. Exit 1 when any is not as expected.

    Limits are not counted here: a case says what the rules decide.
    """
    with closing(looking_fence(policy)) as fence:
        found = run_cases(cases_in(cases, fence), fence.plan.policy.decide, fence.clock())
    failed = [one for one in found if one.failures]
    if junit is not None:
        junit.write_bytes(junit_xml(str(cases), found))
    if as_json:
        echo_json({"total": len(found), "failed": len(failed), "cases": found})
    else:
        for one in failed:
            click.echo(f"FAILED {one.name}: {'; '.join(one.failures)}", err=True)
        click.echo(f"{len(found) - len(failed)} of {len(found)} cases are as expected.")
    sys.exit(1 if failed else 0)


@click.command("diff")
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@click.option("--cases", type=_FILE, help="The events to decide; what they expect is not looked at.")
@click.option("--receipts", metavar="LEDGER", help="Decide what a ledger (its URL, or a SQLite file) has receipts of.")
@json_option
def diff_command(old: Path, new: Path, cases: Path | None, receipts: str | None, *, as_json: bool) -> None:
    """Decide cases by two policies and list those that differ, newly allowed ones first. Exit 1 when any does.

    Of receipts those are undecidable that did not keep what either policy reads; they are counted, by what is missing.
    Exit 1 too when no receipt can be decided.
    """
    if (cases is None) == (receipts is None):
        msg = "name what to decide: --cases FILE, or --receipts LEDGER"
        raise click.UsageError(msg)
    with closing(looking_fence(str(old))) as before, closing(looking_fence(str(new))) as after:
        undecidable: dict[str, int] = {}
        nothing = False
        if receipts is not None:
            with closing(_ledger(receipts, str(new))) as ledger:
                records = records_in(ledger.receipts(Filter()))
                whole = differences(before.plan.policy, after.plan.policy, records)
            nothing = _nothing_decided(whole)
            found, total, undecidable = [*whole.changes], whole.total, whole.undecidable
        else:
            read = cases_in(cast("Path", cases), after, needs=False)
            found, total = compare(read, before.plan.policy.decide, after.plan.policy.decide, after.clock()), len(read)
    opened = sum(one.opens for one in found)
    if as_json:
        told = {"total": total, "changed": len(found), "newly_allowed": opened, "changes": found}
        echo_json(told if receipts is None else {**told, "missing": undecidable})
    else:
        for one in found:
            mark = "NEWLY ALLOWED" if one.opens else "changed"
            click.echo(f"{mark} {one.name} ({one.capability}): {_told(one.old)} -> {_told(one.new)}")
        _tell_undecidable(undecidable)
        what = many(total, "case" if receipts is None else "receipt")
        click.echo(f"{len(found)} of {what} change, {opened} are newly allowed.")
    sys.exit(1 if found or nothing else 0)


@click.command("replay")
@click.argument("source")
@policy_option
@json_option
@click.pass_context
def replay_command(context: click.Context, source: str, policy: str, *, as_json: bool) -> None:
    """Decide SOURCE once more: a ledger (its URL, or a SQLite file), or a trace.jsonl of cases.

    Each receipt of a ledger is decided by the policy that decided it, which the ledger keeps; with --policy all are by
    that one. A line of a trace is a case as `test` reads it, its expect being what was decided; it is decided by the
    policy. Exit 1 when any decision changes. What a ledger did not keep is counted as undecidable, by what is missing.
    Exit 1 too when nothing can be decided.
    """
    if source.endswith((".jsonl", ".json")):
        with closing(looking_fence(policy)) as fence:
            now = fence.clock()
            found = replay(fence.plan.policy, [record_of_case(case, now) for case in trace_in(Path(source), fence)])
    elif context.get_parameter_source("policy") is ParameterSource.COMMANDLINE:
        with closing(looking_fence(policy)) as fence, closing(_ledger(source, policy)) as ledger:
            found = replay(fence.plan.policy, records_in(ledger.receipts(Filter())))
    else:
        config = _config_at(source, policy)
        keys = keys_for_reading(config, Path.cwd())
        with closing(open_for_reading(config, Path.cwd())) as ledger:
            sign = keys.sign if keys is not None else None
            found = replay_each(former_policies(ledger, sign), records_in(ledger.receipts(Filter())))
    totals = {
        "total": found.total,
        "reproduced": found.reproduced,
        "changed": found.changed,
        "newly_allowed": found.newly_allowed,
        "blocked": found.blocked,
        "undecidable": sum(found.undecidable.values()),
    }
    if as_json:
        echo_json({**totals, "missing": found.undecidable, "changes": found.changes})
    else:
        for one in found.changes:
            mark = "NEWLY ALLOWED" if one.opens else "changed"
            click.echo(f"{mark} {one.name} ({one.capability}): {_told(one.old)} -> {_told(one.new)}")
        _tell_undecidable(found.undecidable)
        click.echo(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in totals.items()))
    nothing = _nothing_decided(found)
    sys.exit(1 if found.changes or nothing else 0)


def _tell_undecidable(undecidable: Mapping[str, int]) -> None:
    for why, count in sorted(undecidable.items()):
        click.echo(f"undecidable: {count}, {why}; {advice(why)}")


def _nothing_decided(found: Replay) -> bool:
    """Whether there was nothing to decide, which is said on stderr: that is no success."""
    if found.total > sum(found.undecidable.values()):
        return False
    why = f"none of {many(found.total, 'decision')} could be decided again" if found.total else "there is no decision"
    click.echo(f"nothing was compared: {why}; exit 1", err=True)
    return True


def _ledger(source: str, policy: str) -> Reader:
    """The ledger at a URL or in a SQLite file, with the secret that the policy names. Raises `ConfigError`."""
    return open_for_reading(_config_at(source, policy), Path.cwd())


def _config_at(source: str, policy: str) -> Config:
    """What says where the ledger at a URL or in a SQLite file is. Raises `ConfigError`."""
    config = policy_at(policy)[0] if Path(policy).exists() else load("version: 1\nservice: none\n")
    if "://" not in source and Path(source).is_file() and not _is_sqlite(Path(source)):
        kinds = "name a ledger, its URL or its SQLite file"
        other = "for `replay` also a trace of cases as .jsonl; cases in YAML are for `test` and `diff --cases`"
        raise ConfigError([f"{source}: this is no ledger: {kinds}, or {other}"])
    url = source if "://" in source else f"sqlite:///{Path(source).resolve()}"
    return config.model_copy(update={"ledger": url})


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise ConfigError([f"{path}: the file cannot be read: {error.strerror}"]) from None


def trace_in(path: Path, fence: Fence) -> list[Case]:
    """The cases of a file with one JSON object a line. Raises `ConfigError` naming file and line."""
    lines: list[int] = []
    entries: list[Any] = []
    text = _text_of(path)
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            lines.append(number)
            try:
                entries.append(msgspec.json.decode(line))
            except msgspec.DecodeError as error:
                raise ConfigError([f"{path}:{number}: this line is not JSON: {error}"]) from None
    return _read(path, entries, lines, fence)


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: the file cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: the file is not UTF-8"]) from None


def _read(path: Path, document: Any, lines: Sequence[int], fence: Fence, *, needs: bool = True) -> list[Case]:
    """The cases of a document, which begin on these lines."""
    try:
        return read_cases(document, fence.config.exponents, fence.config.environment, needs=needs)
    except CaseError as error:
        where = f"{path}:{lines[error.place - 1]}" if 0 < error.place <= len(lines) else f"{path}"
        raise ConfigError([f"{where}: {error}"]) from None


def _told(verdict: Any) -> str:
    return f"{word_of(verdict)} ({verdict.code}{', ' + verdict.rule if verdict.rule else ''})"


class _Exact(yaml.SafeLoader):
    """What JSON would take for a number or a truth is one; all else is the text it is written as (`NO`, `10:00`)."""


_MOST_DIGITS = 4300
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)


def _as_written(_loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    text = str(node.value)
    if text in {"true", "false"}:
        return text == "true"
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    # The digits stay as they are written, as in a request's body.
    whole = number.group(1) is None and number.group(2) is None and len(text) <= _MOST_DIGITS
    return int(text) if whole else Number(text)


for _kind in ("bool", "int", "float", "timestamp"):
    _Exact.add_constructor(f"tag:yaml.org,2002:{_kind}", _as_written)


def cases_in(path: Path, fence: Fence, *, needs: bool = True) -> list[Case]:
    """The cases of a YAML or JSON file. Raises `ConfigError` naming file and line."""
    text = _text_of(path)
    try:
        node = yaml.compose(text, _Exact)
        document = yaml.load(text, _Exact)  # noqa: S506 (a safe loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark is not None else f"{path}"
        raise ConfigError([f"{where}: this is not YAML: {error.problem or error.context}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: this is not YAML: {str(error).splitlines()[0]}"]) from None
    except (ValueError, OverflowError, RecursionError):
        said = "a number or an escape in it is too large, or its lists and maps are nested too deep; correct it"
        raise ConfigError([f"{path}: this is not YAML: {said}"]) from None
    return _read(path, document, _lines_of(node), fence, needs=needs)


def _lines_of(node: yaml.Node | None) -> list[int]:
    """The lines on which the entries of a list begin, or of the list `cases` in a map."""
    if isinstance(node, yaml.MappingNode):
        node = next((value for key, value in node.value if key.value == "cases"), None)
    return [one.start_mark.line + 1 for one in node.value] if isinstance(node, yaml.SequenceNode) else []


def junit_xml(name: str, results: Sequence[Result]) -> bytes:
    """The results as JUnit XML, which CI systems show."""
    failed = sum(bool(one.failures) for one in results)
    suite = ET.Element("testsuite", name=name, tests=str(len(results)), failures=str(failed), errors="0")
    for one in results:
        case = ET.SubElement(suite, "testcase", classname=name, name=one.name)
        if one.failures:
            failure = ET.SubElement(case, "failure", message="; ".join(one.failures))
            failure.text = one.verdict.reason
    return bytes(ET.tostring(suite, encoding="utf-8", xml_declaration=True))
