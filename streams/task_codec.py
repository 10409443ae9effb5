"""Finished tasks of a batch, decoded into columns."""

from __future__ import annotations

import math

import numpy as np

from streams.column_codec import ColumnDecoder, rounded
from streams.column_layout import Fields, Layout
from streams.columns import AUTOMATED, ESCALATED, FAILED, UNKNOWN, TaskColumns

_OUTCOMES = {
    "AUTOMATED": AUTOMATED,
    "ESCALATED": ESCALATED,
    "FAILED": FAILED,
    "UNKNOWN": UNKNOWN,
}


class TaskDecoder(ColumnDecoder[TaskColumns]):
    """Decodes batches of the tasks topic; the parameters are those of `ColumnDecoder`."""

    layout = Layout(
        record="TaskFinished",
        longs=("occurred_at", "input_tokens", "output_tokens", "cached_tokens"),
        doubles=("duration_ms", "cost_usd", "confidence"),
        codes={"outcome": _OUTCOMES},
        texts=("task_type", "model"),
        lists=("input_features",),
        absent={"cached_tokens": 0, "confidence": math.nan, "model": None},
    )

    @staticmethod
    def columns(fields: Fields) -> TaskColumns:
        """Make the columns of good records."""
        numbers, texts = fields.numbers, fields.texts
        return TaskColumns(
            occurred_at=numbers["occurred_at"],
            outcome=numbers["outcome"].astype(np.int8),
            cost_micro=rounded(numbers["cost_usd"], 1e6),
            duration_us=rounded(numbers["duration_ms"], 1e3),
            input_tokens=numbers["input_tokens"],
            output_tokens=numbers["output_tokens"],
            cached_tokens=numbers["cached_tokens"],
            tenant=texts["tenant"],
            agent=texts["agent_id"],
            task_type=texts["task_type"],
            model=texts["model"],
            confidence=numbers["confidence"],
            features=fields.lists["input_features"],
        )
