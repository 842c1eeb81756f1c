"""The integrity report as a page for people: one HTML file that needs nothing beside it.

Belongs here: how the report is laid out for reading. Does not belong here: what it says (``steps/integrity.py``), the
proof (``steps/report.py``).

No scripts, no requests to anywhere, light and dark, wide and narrow. Everything on it may come from a user's data, so
that every text goes through `_text`.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import islice
from pathlib import Path

from rag_migration_pipeline.options import Validation
from rag_migration_pipeline.steps.integrity import NAMED, RangeFacts, Report
from rag_migration_pipeline.steps.plan_view import COLUMNS, plain_line, verdict_rows

SHOWN_RANGES = 1_000
SHOWN_IDS = 100
"""Most ids of each kind on the page; report.json names more."""

_PATH = 4_096
"""Most characters of a path."""

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--faint:#5a6370;--line:#d5dae1;--head:#f2f4f7;--good:#17692f;
--bad:#a8201a;--so-so:#7a5200}
@media(prefers-color-scheme:dark){:root{--paper:#14171b;--ink:#e4e8ed;--faint:#9aa4b1;--line:#38404a;--head:#1f242b;
--good:#6fd08c;--bad:#ff8f87;--so-so:#e8b95a}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.5 system-ui,sans-serif}
main{max-width:72rem;margin:0 auto;padding:1rem}
h1{font-size:1.4rem;line-height:1.25;margin:0 0 .5rem;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2rem 0 .5rem}
p{margin:.5rem 0;overflow-wrap:anywhere}
.verdict{border-left:.3rem solid;padding:.5rem .75rem;background:var(--head);font-weight:600}
.good{color:var(--good)}.bad{color:var(--bad)}.so-so{color:var(--so-so)}
.faint{color:var(--faint)}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;min-width:100%}
caption{text-align:left;color:var(--faint);padding:.25rem 0}
th,td{border:1px solid var(--line);padding:.3rem .5rem;text-align:left;vertical-align:top}
td,tbody th{overflow-wrap:anywhere;min-width:6.5rem}
th{background:var(--head);font-weight:600}
td.n{min-width:0;text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
""".strip()

_RANGE_COLUMNS = (
    *("range", "planned", "written", "filtered out", "skipped", "set aside", "compared", "missing", "changed"),
    *("seconds", "records per second"),
)


def write_page(path: Path, report: Report) -> None:
    """Write the page of a report into a file, piece by piece."""
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.writelines(page_of(report))


def page_of(report: Report) -> Iterator[str]:
    """Yield the page of a report in pieces."""
    title = f"Integrity report of {_text(report.migration)}"
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    )
    level, sentence = judgement(report)
    yield f'<p class="verdict {level}">{_text(sentence)}</p>\n'
    yield f'<p class="faint">Made at {_time(report)}, validation {_text(report.validation)}.</p>\n'
    yield from (f"<p>{_text(note)}</p>\n" for note in report.notes)
    for heading, pieces in (
        ("Counts", _counts(report)),
        ("What differs", _differences(report)),
        ("Target collection", _target(report)),
        ("Plan", _plan(report)),
        ("Ranges", _ranges(report)),
        ("Quarantine", _quarantine(report)),
        ("Who, when and with what", _made(report)),
    ):
        yield f"<section>\n<h2>{_text(heading)}</h2>\n"
        yield from pieces
        yield "</section>\n"
    yield "</main>\n</body>\n</html>\n"


def judgement(report: Report) -> tuple[str, str]:
    """Return how good it is (good, so-so, bad), and what the proof says in one sentence."""
    found = report.findings
    if not found.is_clean:
        kinds = ((found.missing, "missing"), (found.extra, "extra"), (found.changed, "changed"))
        said = ", ".join(f"{len(ids)} {kind}" for ids, kind in kinds if ids)
        return "bad", f"Contradicted: {said}. The target is not what the migration wrote."
    if report.is_proven:
        earlier = f", {report.unread} of them by an earlier proof" if report.unread else ""
        aside = f" {report.rejected} records were set aside, as allowed." if report.rejected else ""
        level = "so-so" if report.rejected else "good"
        return level, f"Proven: all {report.written} records that were written are in the target{earlier}.{aside}"
    if report.validation == Validation.FULL:
        aside = f"{report.rejected} records were set aside, more than allowed"
        return "bad", f"Not proven: {aside}. The others are as they were written."
    if report.validation == Validation.COUNTS:
        return "so-so", "Counted, not compared: the numbers and ids agree, and no record was read back."
    return "so-so", "Nothing is claimed: validation is off."


def _counts(report: Report) -> Iterator[str]:
    found = report.findings
    rows = (
        ("planned", report.planned),
        ("written", report.written),
        ("filtered out", report.filtered),
        ("skipped, as the target had them", report.skipped),
        ("set aside", report.rejected),
        ("left over from earlier generations", report.left_over),
        ("compared in this proof", found.compared),
        ("covered by an earlier proof", report.unread),
        ("missing", len(found.missing)),
        ("extra", len(found.extra)),
        ("changed", len(found.changed)),
        ("in the target now", report.target_count),
        ("in the source now", report.source_count),
    )
    yield from _table("Records of the whole collection", ("records", "count"), rows)


def _differences(report: Report) -> Iterator[str]:
    found = report.findings
    if found.is_clean:
        yield "<p>Nothing that was looked at differs.</p>\n"
        return
    rows = [("missing", record_id, "") for record_id in found.missing[:SHOWN_IDS]]
    rows += [("extra", record_id, "") for record_id in found.extra[:SHOWN_IDS]]
    rows += [("changed", record_id, what) for record_id, what in islice(found.changed.items(), SHOWN_IDS)]
    placed = ((*row, "" if row[0] == "extra" else report.range_of.get(row[1], "")) for row in rows)
    yield from _table("Records that differ, by the target's ids", ("finding", "id", "what differs", "range"), placed)
    hidden = sum(max(0, len(ids) - SHOWN_IDS) for ids in (found.missing, found.extra, found.changed))
    if hidden:
        yield f"<p>{hidden} more are left out here; report.json names the first {NAMED} of each kind.</p>\n"
    if report.contradicted:
        keys = ", ".join(report.contradicted[:SHOWN_IDS])
        more = len(report.contradicted) - SHOWN_IDS
        said = f"{keys} and {more} more" if more > 0 else keys
        yield f"<p>The receipts of these ranges are withdrawn, the next run loads them again: {_text(said)}.</p>\n"


def _target(report: Report) -> Iterator[str]:
    ready = report.readiness
    if ready is not None:
        said = "Searches see all of it." if ready.is_ready else "Not ready for searches yet."
        said = "Not ready for searches, and waiting does not help." if ready.is_stuck else said
        yield f"<p>{said} The store says: {_text(ready.detail, 1_000)}.</p>\n"
    rows = (
        (item.name or "(unnamed)", item.planned or "none", item.found or "none", "; ".join(item.differences) or "yes")
        for item in report.vectors
    )
    yield from _table("Vectors of the target", ("vector", "as planned", "as found", "kept"), rows)


def _plan(report: Report) -> Iterator[str]:
    plan = report.migration_plan
    if plan is None:
        yield "<p>The report has no plan.</p>\n"
        return
    yield from _table("What was planned", ("what", "how"), plan.summary())
    yield from _table("Verdicts on every field and feature of the source", COLUMNS, verdict_rows(plan.verdicts))


def _ranges(report: Report) -> Iterator[str]:
    ranges: Sequence[RangeFacts] = report.range_facts
    if not ranges:
        yield "<p>There are no ranges: nothing was to be carried.</p>\n"
        return
    left_out = len(ranges) - SHOWN_RANGES
    if left_out > 0:
        ranges = sorted(ranges, key=lambda item: (not item.is_contradicted, not item.rejected))[:SHOWN_RANGES]
    yield from _table("Counts and rates of each range", _RANGE_COLUMNS, map(_range_row, ranges))
    if left_out > 0:
        yield f"<p>{left_out} ranges are left out; those with anything wrong come first. report.json has all.</p>\n"
    if any(item.records_per_s is None for item in report.range_facts):
        yield '<p class="faint">Seconds and rates stand where the run noted them.</p>\n'


def _range_row(item: RangeFacts) -> tuple[object, ...]:
    return (
        *(item.key, item.planned, item.written, item.filtered, item.skipped, item.rejected),
        *((item.compared, item.missing, item.changed) if item.is_read_back else ("not read", "", "")),
        *("" if value is None else value for value in (item.duration_s, item.records_per_s)),
    )


def _quarantine(report: Report) -> Iterator[str]:
    facts = report.quarantine
    if not facts.count:
        yield "<p>No record was set aside.</p>\n"
        return
    yield f"<p>{facts.count} records were set aside; they lie as they were read in {_text(facts.folder, _PATH)}.</p>\n"
    rows = [*facts.by_reason.items()]
    if facts.other_reasons:
        rows.append(("other reasons; the files have all", facts.other_reasons))
    yield from _table("Records set aside, by reason", ("reason", "records"), rows)


def _made(report: Report) -> Iterator[str]:
    maker = report.maker
    rows = (
        ("made at", report.proven_at.isoformat(timespec="seconds")),
        ("user", maker.user),
        ("host", maker.host),
        ("source", maker.source),
        ("target", maker.target),
        ("migration", report.migration),
        ("identity", report.identity),
        ("plan", f"{report.plan}, generation {report.generation}"),
        *maker.versions.items(),
    )
    yield from _table("Origin of this report; packages with their versions", ("what", "value"), rows)


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield a table; the first cell of a row is its heading, numbers stand to the right."""
    yield f'<div class="wide" role="region" aria-label="{_text(caption)}" tabindex="0">\n<table>\n'
    heads = "".join(f'<th scope="col">{_text(name)}</th>' for name in columns)
    yield f"<caption>{_text(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n"
    for row in rows:
        first, *others = row
        yield f'<tr><th scope="row">{_text(first)}</th>{"".join(map(_cell, others))}</tr>\n'
    yield "</tbody>\n</table>\n</div>\n"


def _cell(value: object) -> str:
    kind = ' class="n"' if isinstance(value, int | float) else ""
    return f"<td{kind}>{_text(value)}</td>"


def _text(value: object, most: int = 300) -> str:
    """Return a text that is only text in HTML, in one line, whatever a user's data are."""
    return escape(plain_line(str(value), most))


def _time(report: Report) -> str:
    when = report.proven_at.isoformat(timespec="seconds")
    return f'<time datetime="{_text(when)}">{_text(when)}</time>'
