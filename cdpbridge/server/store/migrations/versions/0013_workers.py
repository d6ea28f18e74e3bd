"""Workers: machines that run browsers, with their slots, and which of them has a browser."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("address", sa.String(length=300), nullable=False),
        sa.Column("protocol", sa.Integer(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.Column("starting", sa.Integer(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    if op.get_bind().dialect.name == "postgresql":
        # A row changes every second or two, and no column of an index: with free space in its page, no index does either.
        op.execute("ALTER TABLE workers SET (fillfactor = 40)")
    op.add_column("browsers", sa.Column("worker", sa.Uuid(), nullable=True))


def downgrade() -> None:
    op.drop_column("browsers", "worker")
    op.drop_table("workers")
