"""Names of a graph's tensors as those of a module's state dict, where a dot means a layer within a layer."""

from __future__ import annotations

from collections.abc import Iterable

MAX_NAME = 200  # characters; longer ones say no more
# what every module of torch has (a test compares), and ours: no tensor can be called so
TAKEN = frozenset({
    "T_destination", "add_module", "apply", "before_squashing", "bfloat16", "buffers", "call_super_init", "children",
    "compile", "cpu", "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer",
    "get_extra_state", "get_parameter", "get_submodule", "graph", "half", "ipu", "load_state_dict", "modules", "mtia",
    "named_buffers", "named_children", "named_modules", "named_parameters", "outputs", "parameters", "plan",
    "register_backward_hook", "register_buffer", "register_forward_hook", "register_forward_pre_hook",
    "register_full_backward_hook", "register_full_backward_pre_hook", "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook", "register_module", "register_parameter", "register_state_dict_post_hook",
    "register_state_dict_pre_hook", "requires_grad_", "set_extra_state", "set_submodule", "share_memory", "state_dict",
    "to", "to_empty", "train", "training", "type", "unknown", "value", "view", "xpu", "zero_grad",
})  # fmt: skip


class StateNames:
    """Gives each tensor a name of its own that a module can have, as near to the graph's as that allows."""

    def __init__(self) -> None:
        self._tensors: set[str] = set()
        self._layers: set[str] = set()

    def free(self, wanted: str) -> str:
        """Return a name for a tensor."""
        name = self._unused(_clean(wanted), ("",))
        self._tensors.add(name)
        self._layers |= _above(name)
        return name

    def free_layer(self, wanted: str, parts: Iterable[str]) -> str:
        """Return a name for a layer that has these tensors; what follows "#" in the name wished for is left out."""
        parts = tuple(f".{part}" for part in parts)
        name = self._unused(_clean(wanted.partition("#")[0]), parts)
        self._tensors |= {name + part for part in parts}
        self._layers |= {name, *_above(name)}
        return name

    def _unused(self, base: str, parts: Iterable[str]) -> str:
        if not self._tensors.isdisjoint(_above(base)):  # a tensor cannot be a layer as well
            base = base.replace(".", "_")
        name, number = base, 1
        while name in self._tensors | self._layers or not self._tensors.isdisjoint(name + part for part in parts):
            number += 1
            name = f"{base}_{number}"
        return name


def _above(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts))}


def _clean(wanted: str) -> str:
    """Return printable parts that are neither empty nor the name of something that modules have."""
    printable = "".join(c if c.isprintable() else "_" for c in wanted[-MAX_NAME:])
    parts = [part for part in printable.split(".") if part] or ["tensor"]
    return ".".join(f"{part}_" if part in TAKEN or part.startswith("_") else part for part in parts)
