"""What a session refuses. Every one of these leaves all sequences as they were."""

from __future__ import annotations


class SessionError(ValueError):
    """A call that the session refuses; the message names sequence, wish and what there is."""


class UnknownSequence(SessionError):
    """No sequence of that id has been prefilled, or it was released."""


class RepeatedSequence(SessionError):
    """One step would advance the same sequence twice."""


class NoTokens(SessionError):
    """A sequence would be advanced by no token at all."""


class BadToken(SessionError):
    """A token id that the vocabulary does not have."""


class BadText(SessionError):
    """A text that UTF-8 cannot write, such as bytes of another encoding read as one."""


class StartMismatch(SessionError):
    """The position that the caller counts on is not where the sequence ends."""


class ContextTooLong(SessionError):
    """A sequence would be longer than the model's context."""


class CacheFull(SessionError):
    """Not enough free blocks: release sequences, or give the session a larger kv_capacity."""


class TooManySequences(SessionError):
    """max_sequences are open already."""
