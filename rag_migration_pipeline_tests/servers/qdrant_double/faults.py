"""Faults on command and counts of requests: what the double adds to a server so that tests can break and watch it.

What belongs here: deciding, per request, whether to refuse or to wait, and counting. Both doors ask; neither decides.
"""

import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from rag_migration_pipeline_tests.servers.qdrant_double.refusals import Refusal, kinds

CONTROL_PREFIX = "/__"
_UNCOUNTED = frozenset({"root", "health"})


@dataclass
class Fault:
    """One order to misbehave.

    Attributes:
        kind: A refusal kind, or "delay" to answer late and well.
        count: How many matching requests it hits before it is spent.
        operations: Operation names it applies to; empty means all but the health endpoints.
        when: "before" refuses untouched; "after" applies the operation and then loses the acknowledgement.
        delay_s: Seconds to wait before the request is looked at.
        retry_after_s: Sent as Retry-After with a refusal.
        skip: How many matching requests pass before the first hit.
    """

    kind: str
    count: int = 1
    operations: list[str] = field(default_factory=list)
    when: str = "before"
    delay_s: float = 0.0
    retry_after_s: int | None = None
    skip: int = 0

    def __post_init__(self) -> None:
        if self.kind != "delay" and self.kind not in kinds():
            raise ValueError(f"unknown fault kind {self.kind!r}; known: delay, {', '.join(sorted(kinds()))}")
        if self.when not in ("before", "after"):
            raise ValueError(f"when must be 'before' or 'after', not {self.when!r}")

    def refuse(self) -> None:
        """Raise the refusal that this fault stands for."""
        if self.kind != "delay":
            raise Refusal(self.kind, "fault on command", self.retry_after_s)


class Faults:
    """The orders in force and the counts so far, shared by both doors."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._requests: Counter[str] = Counter()
        self._largest_bytes: Counter[str] = Counter()

    def add(self, order: dict[str, Any]) -> None:
        """Take an order; raise ValueError or TypeError for one that makes no sense."""
        fault = Fault(**order)
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Forget every order."""
        with self._lock:
            self._faults.clear()

    def pending(self) -> list[dict[str, Any]]:
        """List the orders that are not spent."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return requests and the largest request body per "transport.operation"."""
        with self._lock:
            return {"requests": dict(self._requests), "largest_request_bytes": dict(self._largest_bytes)}

    def reset_counts(self) -> None:
        """Start counting from zero."""
        with self._lock:
            self._requests.clear()
            self._largest_bytes.clear()

    def note_size(self, transport: str, operation: str, size_bytes: int) -> None:
        """Remember the largest body of an operation."""
        key = f"{transport}.{operation}"
        with self._lock:
            self._largest_bytes[key] = max(self._largest_bytes[key], size_bytes)

    def arrive(self, transport: str, operation: str) -> Fault | None:
        """Count a request and return the fault that hits it, having waited out its delay."""
        with self._lock:
            self._requests[f"{transport}.{operation}"] += 1
            fault = self._take(operation)
        if fault is not None and fault.delay_s:
            time.sleep(fault.delay_s)
        if fault is not None and fault.when == "before":
            fault.refuse()
        return fault

    def depart(self, fault: Fault | None) -> None:
        """Lose the acknowledgement of a request that was applied, if so ordered."""
        if fault is not None and fault.when == "after":
            fault.refuse()

    def _take(self, operation: str) -> Fault | None:
        for fault in self._faults:
            matches = operation in fault.operations if fault.operations else operation not in _UNCOUNTED
            if not matches:
                continue
            if fault.skip:
                fault.skip -= 1
                return None
            fault.count -= 1
            if fault.count <= 0:
                self._faults.remove(fault)
            return fault
        return None
