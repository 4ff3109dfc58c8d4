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
    """Build a network of the zoo as `mess.models.create_model` does, whose arguments these are.

    Args:
        pretrained: load public weights, fetched where they are not in the cache; the last layer stays random where
            the number of classes differs.

    Raises:
        OptionError: an impossible combination; the message says what is possible.
        DownloadError: there are no public weights of this network, or they could not be fetched.
    """
    with keywords_for_flags():
        model = models.create_model(
            arch, dataset, num_classes=num_classes, layers=layers, width_mult=width_mult, groups=groups
        )
    if pretrained:
        from mess.fetch import load_pretrained  # what fetches is imported only where something is fetched

        load_pretrained(model)
    return model
