"""What can be named on the command line, and its defaults: known without torch, so that help comes at once.

The tables that say what each of these is lie elsewhere (`data.info.KNOWN`, `models.ARCHITECTURES`, `scheme.SCHEMES`); a
test holds them to the same names.
"""

from __future__ import annotations

DATASETS = ("digits", "cifar10", "cifar100", "imagenet")
FAMILIES = ("mobilenet", "mobilenetv2", "resnet", "resnext", "shufflenet", "shufflenetv2", "wideresnet")
VERSIONS = ("v1", "v2", "v2a", "v2q", "v3", "v3a", "v4")
SCHEDULES = ("cosine", "step", "onecycle")  # of learning rates
PRECISIONS = ("32", "bf16", "16")  # of the forward and backward pass
LOGS = ("csv", "tensorboard")
DEFAULT_VERSION = "v4"
REST_BITS = 32  # of all that no reference stands for, in versions without a rate to choose
RATE_WEIGHT = 1.0  # nats of loss that one bit a weight costs in training through v4
TRAINED_REST_BITS = 8  # of v4, where training settles the vectors
DIVERGENCE = 0.004  # nats: of v4, how far a stored network may stray by default
