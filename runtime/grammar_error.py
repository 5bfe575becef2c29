"""What makes a grammar unusable."""

from __future__ import annotations


class GrammarError(ValueError):
    """A schema, pattern or tool that no mask can be made of, or a mask that cannot go on; one line.

    Only the request that it belongs to fails.
    """
