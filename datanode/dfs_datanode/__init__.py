"""The datanode: keeps chunks, knows no paths."""
