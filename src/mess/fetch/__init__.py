"""Datasets and public weights: fetched whole, checked, or not at all.

`download` brings one file from the first mirror that has it, `archives` unpacks without leaving the target folder;
`cifar`, `imagenet` and `weights` know what there is and where.
"""

from mess.fetch.cifar import fetch_cifar
from mess.fetch.download import Remote, fetch
from mess.fetch.imagenet import prepare_imagenet
from mess.fetch.parquet import fetch_imagenet_parquet
from mess.fetch.weights import Weights, fetch_weights, find_weights, input_facts, load_pretrained, public_weights

__all__ = [
    "Remote",
    "Weights",
    "fetch",
    "fetch_cifar",
    "fetch_imagenet_parquet",
    "fetch_weights",
    "find_weights",
    "input_facts",
    "load_pretrained",
    "prepare_imagenet",
    "public_weights",
]
