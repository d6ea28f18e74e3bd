"""True if a browser is recorded, and what became of that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("browsers", sa.Column("recording", sa.String(length=20), nullable=True))


def downgrade() -> None:
    op.drop_column("browsers", "recording")
