"""Finding the rate of version 4: from what answers may stray by, from bytes of the file, or from accuracy.

`search` has what the three have in common.
"""

from mess.storing.rate.divergence import to_divergence as to_divergence
from mess.storing.rate.drop import to_drop as to_drop
from mess.storing.rate.search import Search as Search
from mess.storing.rate.size import to_size as to_size
