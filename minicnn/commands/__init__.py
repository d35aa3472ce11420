"""The commands of the program ``minicnn``, one module each: HELP, add_arguments and run.

A command parses, calls and prints; what it does lives with its subject.
"""
