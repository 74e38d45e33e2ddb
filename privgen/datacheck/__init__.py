"""What a tile set is, which of its tiles show the same tissue, and whether it can be split."""
