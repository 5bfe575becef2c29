"""The likeliest tokens of a row of logits, as a GPU finds them: often enough to choose from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ferrum.runtime.logprobs import TokenLogprobs

MOST = 64  # tokens that are found for each row


@dataclass(frozen=True)
class Likeliest:
    """Every token above `floor`, in falling order, ties by id; every other has at most `floor`."""

    tokens: npt.NDArray[np.int64]  # [count]
    logits: npt.NDArray[np.float32]  # [count]
    floor: float  # -inf where nothing is missing
    best: np.float32
    scale: np.float32
    total: float  # sum over the vocabulary of exp((logit - best) * scale)

    @classmethod
    def of(
        cls,
        logits: npt.NDArray[np.float32],
        ids: npt.NDArray[np.float32],
        total: float,
        scale: np.float32,
        vocabulary: int,
    ) -> Likeliest | None:
        """From the largest logits and their tokens' ids; None where these are no numbers.

        Of several tokens that tie for the last place any may be among them: all of these are left
        out, and so the order in which a GPU takes them is of no account.
        """
        if not (np.isfinite(total) and np.all((ids >= 0) & (ids < vocabulary))):
            return None
        tokens = ids.astype(np.int64)
        order = np.lexsort((tokens, -logits))
        logits, tokens = logits[order], tokens[order]
        floor = -np.inf if len(tokens) == vocabulary else float(logits[-1])
        known = np.flatnonzero(logits > floor)
        return cls(tokens[known], logits[known], floor, logits[0], scale, total)

    @property
    def complete(self) -> bool:
        """Whether all tokens that can come at all are here."""
        return self.floor == -np.inf

    def weights(self) -> npt.NDArray[np.float32]:
        """1 for the likeliest: exp((logit - best) * scale)."""
        weights: npt.NDArray[np.float32] = np.exp((self.logits - self.best) * self.scale)
        return weights

    def logprobs(self, token: int, count: int) -> TokenLogprobs | None:
        """As `token_logprobs` of the whole row; None where this does not say so much."""
        at = np.flatnonzero(self.tokens == token)
        if self.scale != 1 or len(at) == 0 or (count > len(self.tokens) and not self.complete):
            return None
        values = self.logits.astype(np.float64) - float(self.best) - np.log(self.total)
        top = zip(self.tokens[:count].tolist(), values[:count].tolist(), strict=True)
        return TokenLogprobs(logprob=float(values[at[0]]), top=tuple(top))
