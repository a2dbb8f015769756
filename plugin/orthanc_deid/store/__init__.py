"""What the service must not forget: the ledger of instances, subjects, studies, deliveries and jobs.

Workers import `store.rows` alone; `Store` is loaded when asked for, so that they stay without SQLAlchemy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orthanc_deid.store.database import Store

__all__ = ["Store"]


def __getattr__(name: str) -> object:
    if name == "Store":
        from orthanc_deid.store.database import Store

        return Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
