"""Units of feed-forward layers: how strongly each answers, what it writes, and which write alike."""
