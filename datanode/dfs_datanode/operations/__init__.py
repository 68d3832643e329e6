"""What a datanode does for its callers: one module for each operation of the protocol that carries bytes."""
