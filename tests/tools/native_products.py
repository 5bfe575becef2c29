"""How the library's test entry points number the products of a type: `Arithmetic` in testing.cc."""

from __future__ import annotations

import ctypes

PRODUCTS = {"fine": ctypes.c_int(0), "exact": ctypes.c_int(1), "even": ctypes.c_int(2)}
