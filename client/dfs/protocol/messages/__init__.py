"""The messages of the protocol, each with its bounds. JSON on the wire; decoding checks every bound.

Unknown fields are ignored, so that neighbouring versions can talk. Limits sit beside the field that they bound, so that
an oversized list is refused while it is decoded and never reaches an operation. Their users import them from here: in
which of the modules one stands says only who sends it.
"""

from dfs.protocol.messages.base import *  # noqa: F403
from dfs.protocol.messages.datanodes import *  # noqa: F403
from dfs.protocol.messages.files import *  # noqa: F403
from dfs.protocol.messages.metadata import *  # noqa: F403
from dfs.protocol.messages.operating import *  # noqa: F403
from dfs.protocol.messages.orphans import *  # noqa: F403
from dfs.protocol.messages.reading import *  # noqa: F403
from dfs.protocol.messages.writing import *  # noqa: F403
