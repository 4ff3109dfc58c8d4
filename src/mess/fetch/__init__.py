"""Datasets and public weights: fetched whole, checked, or not at all.

`download` brings one file from the first mirror that has it, `archives` unpacks without leaving the target folder;
`cifar`, `imagenet` and `weights` know what there is and where.
"""

from mess.fetch.cifar import fetch_cifar as fetch_cifar
from mess.fetch.download import Remote as Remote
from mess.fetch.download import fetch as fetch
from mess.fetch.imagenet import prepare_imagenet as prepare_imagenet
from mess.fetch.parquet import fetch_imagenet_parquet as fetch_imagenet_parquet
from mess.fetch.weights import Weights as Weights
from mess.fetch.weights import find_weights as find_weights
from mess.fetch.weights import input_facts as input_facts
from mess.fetch.weights import load_pretrained as load_pretrained
from mess.fetch.weights import public_weights as public_weights
