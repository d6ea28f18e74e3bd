"""When a server last gave a sign of life, by the database's clock; whether it hands its browsers over; and which server a key ends with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("servers", sa.Column("beaten_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("servers", sa.Column("leaving", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("api_keys", sa.Column("server", sa.Uuid(), nullable=True))


def downgrade() -> None:
    op.drop_column("api_keys", "server")
    op.drop_column("servers", "leaving")
    op.drop_column("servers", "beaten_at")
