"""Networks and weights of others: their files, their catalogues, and what they put around a network.

`weights_file` reads weights from any file without running anything in it: `files` tells what a file is, `pickles` and
`programs` read tensors out of it, `nested` finds the weights among them. `catalogues` builds networks of other
libraries by name, `wrappers` takes off what is around one to run it.
"""
