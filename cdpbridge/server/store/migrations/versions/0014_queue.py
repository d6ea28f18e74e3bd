"""The queue of browsers that wait for a slot of a worker."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "waiters",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("browser_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("server", sa.Uuid(), nullable=True),
        sa.Column("key", sa.String(length=255), nullable=True),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_waiters_project_id_projects")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_waiters")),
        sa.UniqueConstraint("browser_id", name=op.f("uq_waiters_browser_id")),
    )


def downgrade() -> None:
    op.drop_table("waiters")
