"""Versions v1 … v3a: units of kernels stand for one another.

`geometry` says how a tensor is cut into units, `plan` which tensors take part, `matching` finds the best reference,
`penalties` make references worth more, `training` trains through what is stored.
"""
