"""The machine that runs CUDA kernels on the CPU: its own tests, written in kernels."""

from __future__ import annotations

import ctypes

import pytest
from cuda_node import EMULATED, ON_GPU


@pytest.mark.skipif(ON_GPU, reason="nothing is emulated on a GPU")
def test_threads_do_together_what_they_do_on_a_gpu() -> None:
    self_test = ctypes.CDLL(str(EMULATED)).ferrum_cuda_self_test
    self_test.restype = ctypes.c_char_p
    assert self_test() is None
