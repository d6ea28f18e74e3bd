"""What is in object storage: which version of a profile counts, which browser may save the next, and files of browsers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_COLUMNS: dict[str, dict[str, sa.types.TypeEngine[Any]]] = {
    "profiles": {"archive": sa.String(200), "writer": sa.Uuid()},
    "browsers": {"kept_bytes": sa.BigInteger(), "kept_video": sa.Boolean()},
}


def upgrade() -> None:
    version = sa.Column("version", sa.Integer(), nullable=False, server_default=sa.text("0"))
    op.add_column("profiles", version)
    for table, columns in _COLUMNS.items():
        for name, kind in columns.items():
            op.add_column(table, sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    op.drop_column("profiles", "version")
    for table, columns in _COLUMNS.items():
        for name in columns:
            op.drop_column(table, name)
