"""Storing a network that comes as ONNX: how it is looked at, and what onnxruntime says of what was stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from mess.codec import StoredModel, Tensor
from mess.errors import OptionError
from mess.graphs.answers import ModelAnswers, compare
from mess.graphs.looking import make_fit
from mess.graphs.model_files import read_taken, serialised
from mess.graphs.network import GraphNetwork
from mess.graphs.tensors import put_back
from mess.scheme.learned import gather_inputs
from mess.storing.entries import DTYPES
from mess.storing.graph_inputs import feeds_of, make_inputs
from mess.storing.made_up import FORGETFUL, remembers
from mess.storing.network import Network
from mess.storing.options import Request

COMPARED = 16  # inputs


def read_graph_network(path: str) -> GraphNetwork:
    """Read an ONNX model as a network.

    Raises:
        CheckpointError: no ONNX model, or numbers beside it that are not there.
        OptionError: onnx or onnxruntime is not installed.
    """
    taken = read_taken(path)
    tensors = {name: torch.from_numpy(array) for name, array in taken.tensors.items()}
    tensors |= {
        name: tensors[name].view(DTYPES["bfloat16"]) for name, kind in taken.dtypes.items() if kind == "bfloat16"
    }
    return GraphNetwork(taken.graph, tensors, path).eval()


def prepare(network: Network, request: Request) -> tuple[Network, Request]:
    """Make a network that comes as ONNX fit to be looked at, and inputs to look at it with; any other stays as it is.

    Where it cannot be run, `unseen` of the network says why, and its weights are rounded by themselves.

    Raises:
        OptionError: another version than v4.
    """
    module = network.module
    if not isinstance(module, GraphNetwork):
        return network, request
    if not request.options.scheme().learned:
        raise OptionError("--version", "v4 for an ONNX model", request.options.version)
    inputs, reason = None, ""
    if unknown := module.unknown():
        reason = f"operators that cannot be run here: {', '.join(unknown)}"
    elif len(module.plan.inputs) != 1 or not module.plan.inputs[0].is_float:
        kinds = " and ".join("floats" if given.is_float else "whole numbers" for given in module.plan.inputs)
        reason = f"its inputs are {len(module.plan.inputs)}, of {kinds or 'nothing'}; one of floats is looked at"
    elif request.calibration is not None:
        inputs, labels = gather_inputs(request.calibration)
        _check_declared(module, inputs)
        request = replace(request, calibration=inputs if labels is None else [(inputs, labels)])
    elif not remembers(module):
        reason = FORGETFUL
    else:
        inputs = make_inputs(module, request.input_shape, request.device, progress=request.progress)
        reason = "" if inputs is not None else "a shape of inputs that is not known; --input-shape says it"
    if inputs is not None:
        two = inputs[:2] if len(inputs) > 1 else inputs[:1].repeat(2, *[1] * (inputs.dim() - 1))
        reason = make_fit(module, two)
        if request.calibration is None:
            request = replace(request, calibration=inputs, made_up=True)
    return replace(network, unseen=reason), request


def _check_declared(network: GraphNetwork, inputs: torch.Tensor) -> None:
    """Raise OptionError where inputs are not of the shape that the model says it takes."""
    declared, found = network.plan.inputs[0].shape, (None, *inputs.shape[1:])
    fits = not declared or (
        len(declared) == len(found) and all(size in (None, n) for size, n in zip(declared[1:], found[1:], strict=True))
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in declared[1:])
        raise OptionError("--calibration", f"inputs of shape ({wanted}), as the model says", tuple(inputs.shape[1:]))


def answers_of(
    network: Network, stored: StoredModel, tensors: Mapping[str, Tensor], request: Request, where: object
) -> ModelAnswers | None:
    """Return what onnxruntime answers on the model that was given and on the one in the file; None: no ONNX model.

    Raises:
        WeightsError: the stored model does not run, or answers no numbers.
    """
    module = network.module
    if not isinstance(module, GraphNetwork) or stored.graph is None:
        return None
    # inputs of the first of several would lie beside zeros for the others
    given = request.calibration if len(module.plan.inputs) == 1 else None
    inputs = None if given is None else gather_inputs(given)[0]
    feeds = feeds_of(module, inputs, COMPARED)
    own = {name: _as_numpy(tensor) for name, tensor in network.weights.items()}
    arrays = {name: array for name, (array, _) in tensors.items()}
    before, after = (serialised(put_back(stored.graph, part, str(where)), where) for part in (own, arrays))
    return compare(before, after, feeds, where, made_up=inputs is None or request.made_up)


def _as_numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu().contiguous()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
