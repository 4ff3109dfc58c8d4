"""The version of the package; the version of the file format is in `mess.codec.container`."""

__version__ = "0.1.0"
