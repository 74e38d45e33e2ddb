"""Damaged and hostile files for every door of the product, made by number and seed.

`all_doors.DOORS` lists the doors; `door` says what one is and judges what comes of an input;
`by_bytes` and the `shape_*` modules make the inputs; `workers` opens them in processes of their
own. `benchmarks/hostile.py` counts, `tests/fuzz` searches with a fuzzer; both take the doors here.
"""
