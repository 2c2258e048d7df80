"""Fused passes over rows of tokens: C++ for the CPU, Triton for CUDA devices.

A backend is a module with the four functions of :mod:`fairseq_powernorm.functional.rows`, which chooses one by device
and is the definition of what they compute. Importing anything here is safe without Triton and without the compiled
library.
"""
