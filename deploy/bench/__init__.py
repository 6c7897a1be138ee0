"""Benchmarks (`make bench`): each measures a part beside its limit in one run; it prints a table and one JSON line.

A speed on a shared machine is noise; a ratio within one run and the CPU seconds are not. So every benchmark interleaves
the part and its limit, repeats, and reports medians, with the CPU seconds of every process that took part.

Floor 3: may import everything.
"""
