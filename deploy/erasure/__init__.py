"""Erase a visitor or a session everywhere in Postgres, in an order that holds beside running sinks and ends anywhere.

1. Block: from here on nothing of it is stored. The one moment at which sinks wait, for an insert into the block-list.
2. Remove its sessions, a few a transaction. What a transaction removed is added to the erasure's row in it.
3. A visitor: take the name from what sessions of others have of before.
4. Count again what names the sessions or the visitor. Something left is an error, and is said by table.
5. Write into the audit log what was removed in all.

Ended at any point, and run again: what is blocked stays blocked, a session is removed whole or not at all, and one that
is left is found by its visitor.
"""
