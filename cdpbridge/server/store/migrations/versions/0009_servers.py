"""Servers with a sign of life each, and which of them has a browser or a task."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "servers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.Column("uptime_ms", sa.BigInteger(), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_servers")),
    )
    op.add_column("browsers", sa.Column("owner", sa.Uuid(), nullable=True))
    op.add_column("browsers", sa.Column("generation", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("browsers", sa.Column("started_uptime_ms", sa.BigInteger(), nullable=True))
    op.add_column(
        "browsers", sa.Column("stop_asked", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("browsers", sa.Column("given_out", sa.Boolean(), nullable=True))
    op.add_column("tasks", sa.Column("owner", sa.Uuid(), nullable=True))


def downgrade() -> None:
    op.drop_column("tasks", "owner")
    for column in ("given_out", "stop_asked", "started_uptime_ms", "generation", "owner"):
        op.drop_column("browsers", column)
    op.drop_table("servers")
