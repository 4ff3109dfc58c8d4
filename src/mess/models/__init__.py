"""Networks: seven families, for 32x32 images and in ImageNet form, one file a family.

`resolve` turns what a person says into an `Architecture`, `build` turns that into a module, and `layout` tells the
names and shapes of its weights: what a `.mess` file of a network of the zoo need not store.
"""

from mess.models.architecture import Architecture, networks, resolve
from mess.models.recognise import recognise
from mess.models.zoo import ARCHITECTURES, build, layout

__all__ = ["ARCHITECTURES", "Architecture", "build", "layout", "networks", "recognise", "resolve"]
