"""What a step needs of the outside, as Protocols. Adapters provide them; tests use the shipped memory twins."""
