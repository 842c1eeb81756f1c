"""The laws of the simulation: what grows with what, and what never gets worse."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulation import READS, Costs, Plan, advice, costs_of, default_plans, knobs, main, needs, table

COSTS = Costs(
    carry_s=0.001,
    serial_s=0.0002,
    range_s=0.3,
    growth_s=0.0001,
    rows=48,
    run_rows=26,
    range_bytes=100_000,
    state_bytes=60,
    staged_bytes=1_000,
    staged_s=0.0005,
)
PLANS = st.builds(Plan, st.integers(1, 10**10), st.integers(1, 10**6), st.integers(1, 64))


@given(PLANS, st.integers(1, 64))
def test_more_workers_never_take_longer(plan: Plan, more: int) -> None:
    for costs in (COSTS, replace(COSTS, most_per_s=2_500.0)):
        before, after = needs(plan, costs), needs(replace(plan, workers=plan.workers + more), costs)
        assert after.hours <= before.hours
        assert after.serial_share >= before.serial_share
        assert (after.ranges, after.event_rows, after.state_bytes) == (
            before.ranges,
            before.event_rows,
            before.state_bytes,
        )


@given(PLANS)
def test_no_number_of_workers_makes_planning_and_proof_shorter_or_the_stores_faster(plan: Plan) -> None:
    most = 2_500.0
    many = replace(plan, workers=10**6)
    hours, bounded = needs(many, COSTS).hours, needs(many, replace(COSTS, most_per_s=most)).hours
    assert hours >= plan.records * COSTS.serial_s / 3_600
    assert bounded >= max(hours, plan.records * (COSTS.serial_s + 1 / most) / 3_600 * (1 - 1e-12))


@given(st.integers(1, 1_000), st.integers(1, 100_000), st.integers(2, 50))
def test_rows_and_bytes_grow_as_the_ranges_do(ranges: int, range_count: int, factor: int) -> None:
    plan = Plan(ranges * range_count, range_count)
    small, large = needs(plan, COSTS), needs(replace(plan, records=factor * plan.records), COSTS)
    assert large.ranges == factor * small.ranges
    assert large.event_rows - COSTS.run_rows == factor * (small.event_rows - COSTS.run_rows)
    assert large.instance_bytes == factor * small.instance_bytes
    assert large.state_bytes == factor * small.state_bytes
    assert large.staging_bytes == small.staging_bytes, "one range is staged at a time"


@given(PLANS, st.integers(2, 20))
def test_larger_ranges_mean_fewer_rows_and_less_bookkeeping_but_more_staged(plan: Plan, factor: int) -> None:
    small, large = needs(plan, COSTS), needs(replace(plan, range_count=factor * plan.range_count), COSTS)
    assert large.ranges <= small.ranges
    assert large.event_rows <= small.event_rows
    assert large.dagster_hours <= small.dagster_hours
    assert large.staging_bytes >= small.staging_bytes


@given(PLANS, st.integers(1, 1_000))
def test_shorter_runs_are_more_runs_with_more_rows_in_the_same_hours(plan: Plan, per_run: int) -> None:
    one, several = needs(plan, COSTS), needs(replace(plan, ranges_per_run=per_run), COSTS)
    assert one.runs == 1
    assert several.runs == -(-one.ranges // per_run)
    assert several.event_rows >= one.event_rows
    assert several.dagster_hours == one.dagster_hours


def test_twice_the_ranges_are_more_than_twice_the_bookkeeping() -> None:
    still = replace(COSTS, carry_s=1e-9, serial_s=0.0, staged_s=0.0)
    one, two = needs(Plan(100, 1), still), needs(Plan(200, 1), still)
    assert 2 * one.dagster_hours < two.dagster_hours < 4 * one.dagster_hours


@given(PLANS)
def test_one_worker_of_the_engine_is_never_slower_than_dagster(plan: Plan) -> None:
    found = needs(replace(plan, workers=1), COSTS)
    assert found.hours <= found.dagster_hours * (1 + 1e-12)


@pytest.mark.parametrize("plan", [Plan(0), Plan(1, 0), Plan(1, 1, 0), Plan(1, 1, 1, -1)])
def test_nothing_is_reckoned_of_nothing(plan: Plan) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        needs(plan, COSTS)


def test_costs_are_those_that_were_measured() -> None:
    engine = {"seconds": 12.0, "planning_s": 1.0, "proof_s": 1.0, "state_bytes": 6_000}
    speed = {"records": 100, "range_count": 50, "runs": {"engine": engine}}
    speed["runs"] |= {"dagster": {"seconds": 18.0, "staged_bytes": 90_000}}  # type: ignore[operator]
    dagster = {"seconds": 0.75, "event_rows": 50.0, "instance_bytes": 1_000.0}
    overhead = {
        "sizes": [10, 20],
        "runs": {"dagster": [{"event_rows": 506}]},
        "per_range": {"dagster": dagster, "engine": {"seconds": 0.25}},
    }
    partitions = {"partitions": 1_000, "manifest": {"seconds": 0.5}}
    found = costs_of(overhead, speed, partitions)
    assert found == Costs(0.1, 0.02, 0.5, READS * 0.0005, 50.0, 6.0, 1_000.0, 60.0, 900.0, staged_s=0.06 - 0.01)


def test_the_knobs_that_matter_are_named_and_no_others() -> None:
    assert knobs(Plan(1_000_000), COSTS) == []
    said = " ".join(knobs(Plan(1_000_000_000, 10_000), COSTS))
    assert "`range_count: 100000` makes it" in said
    assert "PostgreSQL" in said
    assert "A staged range" not in said
    assert "lower `range_count`" in " ".join(knobs(Plan(10**9, 20_000_000), COSTS))
    assert "split the collection" in " ".join(knobs(Plan(10**9, 500_000), COSTS))
    assert "`rag-migrate`" in " ".join(knobs(Plan(10**9, 500_000), replace(COSTS, staged_s=0.001)))
    assert "`max_workers`" in " ".join(knobs(Plan(10**9, 500_000), replace(COSTS, serial_s=0.00001)))


def test_it_prints_a_row_per_plan_and_takes_a_rate_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert len(table(default_plans(), COSTS)) == 2 + len(default_plans())
    assert "1,000,000,000" in shown
    assert all(line.startswith("- ") for line in advice(default_plans(), COSTS))
    assert main(["--records", "3600000", "--range-counts", "50000", "--workers", "1", "--rate", "1000"]) == 0
    row = capsys.readouterr().out.splitlines()[2]
    assert row.split(" | ")[8] == "1.0"
