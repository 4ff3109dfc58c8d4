"""Weights in files of others: what a file is, and what of it can be read without running anything in it.

`files` tells what a file is, `pickles` and `programs` read tensors out of it, `nested` finds the weights among them.
"""
