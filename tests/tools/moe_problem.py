"""Problems for QuantMoE, whoever runs the node."""

from __future__ import annotations

import numpy as np
from oracle import moe, quantized


class MoeProblem:
    """Inputs of a node for these routed ids [tokens, k] and, decoded, what they mean."""

    def __init__(
        self, chosen: np.ndarray, experts: int, hidden: int, width: int, types: tuple[int, int, int]
    ) -> None:
        tokens, k = chosen.shape
        rng = np.random.default_rng([tokens, k, hidden])
        gate = quantized(types[0], (experts, width, hidden), 1)
        up = quantized(types[1], (experts, width, hidden), 2)
        down = quantized(types[2], (experts, hidden, width), 3)
        self.feeds = {
            "x": rng.standard_normal((tokens, hidden)).astype(np.float32),
            "weights": rng.dirichlet(np.ones(k), tokens).astype(np.float32).reshape(tokens, k),
            "experts": chosen.astype(np.int32),
            "gate": gate[0],
            "up": up[0],
            "down": down[0],
        }
        self.matrices = (gate[1], up[1], down[1])
        self.attributes = dict(zip(("gate_type", "up_type", "down_type"), types, strict=True))

    def wanted(self) -> np.ndarray:
        """What the node's definition makes of the inputs."""
        feeds = self.feeds
        return moe(feeds["x"], feeds["weights"], feeds["experts"], *self.matrices)

    def tokens(self, start: int, end: int) -> dict[str, np.ndarray]:
        """The feeds of some of the tokens."""
        of_tokens = ("x", "weights", "experts")
        return {n: a[start:end] if n in of_tokens else a for n, a in self.feeds.items()}


def empty_experts(experts: int, hidden: int, width: int) -> dict[str, np.ndarray]:
    """A node's feeds for Q8_0 experts of which a size may be 0."""
    return {
        "x": np.ones((5, hidden), np.float32),
        "weights": np.ones((5, 2), np.float32),
        "experts": np.zeros((5, 2), np.int32),
        "gate": np.zeros((experts, width, hidden // 32 * 34), np.uint8),
        "up": np.zeros((experts, width, hidden // 32 * 34), np.uint8),
        "down": np.zeros((experts, hidden, width // 32 * 34), np.uint8),
    }


def skewed(tokens: int, k: int, experts: int, seed: int = 0) -> np.ndarray:
    """As real routing is: some experts get many tokens, some none; none twice by one token, unless
    there are too few."""
    rng = np.random.default_rng(seed)
    chance = rng.dirichlet(np.full(experts, 0.3)) + 1e-6
    chance /= chance.sum()
    return np.array(
        [rng.choice(experts, k, replace=k > experts, p=chance) for _ in range(tokens)]
    ).reshape(tokens, k)


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Norm of the difference, relative to what is wanted."""
    return float(np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), 1e-30))
