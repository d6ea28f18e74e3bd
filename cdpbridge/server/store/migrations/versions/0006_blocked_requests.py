"""How many requests of a browser the block lists have refused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("browsers", sa.Column("blocked_requests", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("browsers", "blocked_requests")
