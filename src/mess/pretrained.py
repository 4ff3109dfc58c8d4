"""A network of the zoo, with public weights where they are asked for: models and fetch put together."""

from __future__ import annotations

from torch import nn

from mess import models
from mess.python_names import keywords_for_flags


def create_model(
    arch: str,
    dataset: str = "cifar10",
    *,
    num_classes: int | None = None,
    layers: int | None = None,
    width_mult: float = 1.0,
    groups: int | None = None,
    pretrained: bool = False,
) -> nn.Module:
    """Build a network of the zoo.

    Args:
        arch: one of `mess.models.ARCHITECTURES`.
        dataset: ``cifar10``, ``cifar100``, ``digits``, ``imagenet`` or a folder of class folders.
        num_classes: where the dataset does not say it.
        layers: depth of ResNet, ResNeXt, WideResNet; None takes the family's default.
        width_mult: factor on all widths; the widening factor of WideResNet.
        groups: of ShuffleNet (default 2); the cardinality of ResNeXt (default 32).
        pretrained: load public weights, fetched where they are not in the cache; the last layer stays random where
            the number of classes differs.

    Raises:
        OptionError: an impossible combination; the message says what is possible.
        DownloadError: there are no public weights of this network, or they could not be fetched.
    """
    with keywords_for_flags():
        architecture = models.resolve(
            arch, dataset, num_classes=num_classes, layers=layers, width_mult=width_mult, groups=groups
        )
    model = models.build(architecture)
    if pretrained:
        from mess.fetch import load_pretrained  # what fetches is imported only where something is fetched

        load_pretrained(model)
    return model
