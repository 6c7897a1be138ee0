"""Put a step of a test's in the place of the product's own.

Apart from `planted`, which loads every service: a process loads its own alone, or each start takes seconds longer.
"""


def replace(owner: object, name: str, step: object) -> None:
    """Replace a step in this process."""
    setattr(owner, name, step)
