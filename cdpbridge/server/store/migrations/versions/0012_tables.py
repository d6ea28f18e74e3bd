"""Which versions may work with these tables: an older server starts on newer ones, so servers are upgraded one after the other."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    tables = op.create_table(
        "tables",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("oldest", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tables")),
    )
    # A later migration that an older server cannot work with raises this number, and `OLDEST` of `_engine.py`.
    op.bulk_insert(tables, [{"id": 1, "oldest": "0012"}])


def downgrade() -> None:
    op.drop_table("tables")
