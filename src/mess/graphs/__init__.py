"""Networks that come as ONNX: their tensors out of the graph and back, and the graph as a torch module.

::

    model.onnx ─ model_files ─► tensors ─ take_out ─► graph, tensors ─► GraphNetwork   (plan, operators)
    model.onnx ◄─ model_files ◄─ tensors ◄─ put_back ◄─
                                answers: what onnxruntime says of both

`tensors` and `model_files` need no torch.
"""
