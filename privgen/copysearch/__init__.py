"""Which real tile a tile shows: key points, votes, alignment, and the search made of them."""
