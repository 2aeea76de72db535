"""The weights doctor: what weight files are, and conversions of them."""
