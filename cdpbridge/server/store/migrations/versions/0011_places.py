"""The place of a browser's folders on its machine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("browsers", sa.Column("place_id", sa.Uuid(), nullable=True))


def downgrade() -> None:
    op.drop_column("browsers", "place_id")
