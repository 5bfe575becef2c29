"""The benchmark: speed beside the machine's own limits, and beside llama.cpp in turn."""
