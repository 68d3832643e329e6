"""The wire protocol that every role shares: identifiers, messages, errors, digests, capabilities, formats, transport.

Separate because the namenode, the datanode and the client must agree on it to the byte, and because it may
import nothing else of ours: whoever speaks to dfs needs this package alone.
"""

PROTOCOL_VERSION = 1
"""Sent as the header `Dfs-Protocol` with every call; a peer with another major version is refused."""
