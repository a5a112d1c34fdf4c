"""From a sweep to its table: evaluate the missing chunks and store them."""
