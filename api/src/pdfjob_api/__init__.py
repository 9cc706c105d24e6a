"""The shared vocabulary of pdfjob.

Submodules are imported by name and nothing is imported here, so that the chunk runner pays only for what it
uses.
"""
