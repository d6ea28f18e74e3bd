"""When a server last gave a sign of life; browsers that are handed over; keys that end with a server; the console's sign-ins."""

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
    op.create_table(
        "sign_ins",
        sa.Column("token_digest", sa.String(length=64), nullable=False),
        sa.Column("proof_digest", sa.String(length=64), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("token_digest", name=op.f("pk_sign_ins")),
    )
    op.create_index(op.f("ix_sign_ins_until"), "sign_ins", ["until"])


def downgrade() -> None:
    op.drop_table("sign_ins")
    op.drop_column("api_keys", "server")
    op.drop_column("servers", "leaving")
    op.drop_column("servers", "beaten_at")
