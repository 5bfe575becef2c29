"""The oldest ONNX Runtime that is tested is the one that is claimed."""

from __future__ import annotations

from importlib import metadata

import pytest
from with_onnxruntime import lower_bound

from ferrum.builder.check.structure import OLDEST_RUNTIME


def test_the_lower_bound_of_a_package_is_read_among_others() -> None:
    asked = ["numpy>=1.24", "onnxruntime<3,>=1.21", "pytest>=8; extra == 'test'"]
    assert lower_bound("onnxruntime", asked) == "1.21"
    with pytest.raises(ValueError, match="no lower bound"):
        lower_bound("onnx", asked)


def test_ferrum_check_judges_by_the_oldest_onnxruntime_that_the_package_asks_for() -> None:
    assert lower_bound("onnxruntime", metadata.requires("ferrum") or []) == OLDEST_RUNTIME
