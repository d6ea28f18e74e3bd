"""The balance of a project in its row, kept by a trigger: servers of the version before book entries without knowing of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ADD = "UPDATE projects SET balance_micro_usd = balance_micro_usd + NEW.amount_micro_usd WHERE id = NEW.project_id;"


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:  # what another server books meanwhile waits for the trigger
        op.execute("LOCK TABLE ledger IN SHARE ROW EXCLUSIVE MODE")
    op.add_column(
        "projects", sa.Column("balance_micro_usd", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.execute(
        "UPDATE projects SET balance_micro_usd = coalesce("
        "(SELECT sum(amount_micro_usd) FROM ledger WHERE ledger.project_id = projects.id), 0)"
    )
    if postgresql:
        op.execute(
            f"CREATE FUNCTION add_to_balance() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {_ADD} RETURN NULL; END $$"
        )
        op.execute(
            "CREATE TRIGGER ledger_balance AFTER INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION add_to_balance()"
        )
    else:
        op.execute(f"CREATE TRIGGER ledger_balance AFTER INSERT ON ledger BEGIN {_ADD} END")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER ledger_balance ON ledger")
        op.execute("DROP FUNCTION add_to_balance()")
    else:
        op.execute("DROP TRIGGER ledger_balance")
    op.drop_column("projects", "balance_micro_usd")
