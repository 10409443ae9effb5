"""Calls of agents to integrations of a batch, decoded into columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams.column_codec import ColumnDecoder, rounded
from streams.column_layout import Fields, Layout
from streams.columns import AUTOMATED, FAILED, UNKNOWN, CallColumns, DictColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNKNOWN, _OK, _ERROR, _TIMEOUT = range(4)
_OUTCOMES = {"UNKNOWN": _UNKNOWN, "OK": _OK, "ERROR": _ERROR, "TIMEOUT": _TIMEOUT}
_AS_TASKS = np.array([UNKNOWN, AUTOMATED, FAILED, FAILED], np.int8)
_STATUSES = 10_000
"""Status codes there can be, 0 among them."""
_FIRST_ERROR = 400
"""Smallest status code of HTTP that is an error."""


class CallDecoder(ColumnDecoder[CallColumns]):
    """Decodes batches of the calls topic; the parameters are those of `ColumnDecoder`."""

    layout = Layout(
        record="IntegrationCall",
        longs=("occurred_at", "status_code", "attempts"),
        doubles=("duration_ms",),
        codes={"outcome": _OUTCOMES, "purpose": {"PRODUCTION": 0, "CONTRACT_TEST": 1}},
        texts=("integration", "operation", "error_type"),
        absent={"status_code": 0, "error_type": None},
    )

    @staticmethod
    def columns(fields: Fields) -> CallColumns:
        """Make the columns of good records."""
        numbers, texts = fields.numbers, fields.texts
        outcome = numbers["outcome"]
        return CallColumns(
            occurred_at=numbers["occurred_at"],
            outcome=_AS_TASKS[outcome],
            timeout=outcome == _TIMEOUT,
            duration_us=rounded(numbers["duration_ms"], 1e3),
            attempts=numbers["attempts"],
            contract_test=numbers["purpose"] == 1,
            tenant=texts["tenant"],
            agent=texts["agent_id"],
            integration=texts["integration"],
            operation=texts["operation"],
            error_type=_error_types(outcome, numbers["status_code"], texts["error_type"]),
        )


def _error_types(
    outcome: NDArray[np.int64], status: NDArray[np.int64], given: DictColumn
) -> DictColumn:
    """Return the error type of each call, None of those that did not fail."""
    failed = np.flatnonzero(outcome >= _ERROR)
    status = status[failed].astype(np.int64)
    kinds = (given.codes[failed].astype(np.int64) * _STATUSES + status) * 4 + outcome[failed]
    distinct, places = np.unique(kinds, return_inverse=True)
    index: dict[str | None, int] = {None: 0}
    table = np.array([index.setdefault(_named(each, given), len(index)) for each in distinct])
    codes = np.zeros(len(outcome), np.int32)
    if len(failed):
        codes[failed] = table[places]
    return DictColumn(codes, list(index))


def _named(kind: int, given: DictColumn) -> str:
    """Return the error type of a kind: the one given, else one made of status and outcome."""
    rest, outcome = divmod(int(kind), 4)
    code, status = divmod(rest, _STATUSES)
    if text := given.values[code]:
        return text
    if status >= _FIRST_ERROR:
        return f"HTTP_{status}"
    return "TIMEOUT" if outcome == _TIMEOUT else "ERROR"
