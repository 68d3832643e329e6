"""One plain function for each operation of the protocol; `handlers` gives each what it uses."""
