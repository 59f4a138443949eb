"""The five labs: classic exercises of Torch7 and PyTorch courses, rerun with torchlift.

Each lab is a `Lab` in a file of its own: a function that runs torchlift commands with
`Steps.run` and returns the sections of a report. Every number in the report is a result of one of
these commands. See docs/labs.md.
"""
