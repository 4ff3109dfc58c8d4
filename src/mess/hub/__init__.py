"""The Hugging Face hub: `files` fetches from it, `networks` reads a ``config.json``, `upload` puts there."""

from mess.hub.files import FORM as FORM
from mess.hub.files import WEIGHTS as WEIGHTS
from mess.hub.files import Address as Address
from mess.hub.files import client as client
from mess.hub.files import fetch as fetch
from mess.hub.files import is_hub as is_hub
from mess.hub.files import local as local
from mess.hub.files import parse as parse
from mess.hub.files import stem as stem
