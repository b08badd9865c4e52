"""What the structures of compounds tell: properties, fingerprints, and which are alike."""
