"""Workers whose ports speak TLS, and why one is not reached."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("tls", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("workers", sa.Column("problem", sa.Unicode(length=1000), nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "problem")
    op.drop_column("workers", "tls")
